// Sixteen float32 lanes on any instruction set, for float_steps.h and attention_steps.h.
//
// Include inside an unnamed namespace, after V (see integer_tiles.h), which here also provides
//
//   V::add, subtract, divide, largest(Float, Float), where the largest of a number and NaN is the second
//   V::any_above(Float, Float)  whether some lane of the first is larger
//   V::load_bf16(p)         kLanes bf16 values
//   V::power_of_two(n)      2^n for whole n in -126..127
//
// The lanes are always sixteen and sums are folded in halves, so that results have the same bits everywhere.

template <class V>
struct Lanes {
    static constexpr int kParts = kTile / V::kLanes;
    typename V::Float part[kParts];

    static Lanes splat(float value) {
        Lanes made;
        for (int i = 0; i < kParts; ++i) made.part[i] = V::splat(value);
        return made;
    }
    static Lanes load(const float* p) {
        Lanes made;
        for (int i = 0; i < kParts; ++i) made.part[i] = V::load(p + i * V::kLanes);
        return made;
    }
    static Lanes load(const uint16_t* bf16) {
        Lanes made;
        for (int i = 0; i < kParts; ++i) made.part[i] = V::load_bf16(bf16 + i * V::kLanes);
        return made;
    }
    void store(float* p) const {
        for (int i = 0; i < kParts; ++i) V::store(part[i], p + i * V::kLanes, V::kLanes);
    }
};

// Functions, not lambdas or friends: those would not be compiled for the instruction set of the file.

template <class V>
Lanes<V> operator+(const Lanes<V>& a, const Lanes<V>& b) {
    Lanes<V> made;
    for (int i = 0; i < Lanes<V>::kParts; ++i) made.part[i] = V::add(a.part[i], b.part[i]);
    return made;
}

template <class V>
Lanes<V> operator-(const Lanes<V>& a, const Lanes<V>& b) {
    Lanes<V> made;
    for (int i = 0; i < Lanes<V>::kParts; ++i) made.part[i] = V::subtract(a.part[i], b.part[i]);
    return made;
}

template <class V>
Lanes<V> operator*(const Lanes<V>& a, const Lanes<V>& b) {
    Lanes<V> made;
    for (int i = 0; i < Lanes<V>::kParts; ++i) made.part[i] = V::multiply(a.part[i], b.part[i]);
    return made;
}

template <class V>
Lanes<V> operator/(const Lanes<V>& a, const Lanes<V>& b) {
    Lanes<V> made;
    for (int i = 0; i < Lanes<V>::kParts; ++i) made.part[i] = V::divide(a.part[i], b.part[i]);
    return made;
}

template <class V>
Lanes<V> multiply_add(const Lanes<V>& a, const Lanes<V>& b, const Lanes<V>& c) {
    Lanes<V> made;
    for (int i = 0; i < Lanes<V>::kParts; ++i) made.part[i] = V::multiply_add(a.part[i], b.part[i], c.part[i]);
    return made;
}

template <class V>
Lanes<V> largest(const Lanes<V>& a, const Lanes<V>& b) {
    Lanes<V> made;
    for (int i = 0; i < Lanes<V>::kParts; ++i) made.part[i] = V::largest(a.part[i], b.part[i]);
    return made;
}

template <class V>
bool any_above(const Lanes<V>& a, const Lanes<V>& b) {
    bool found = false;
    for (int i = 0; i < Lanes<V>::kParts; ++i) found |= V::any_above(a.part[i], b.part[i]);
    return found;
}

template <class V>
Lanes<V> power_of_two(const Lanes<V>& a) {
    Lanes<V> made;
    for (int i = 0; i < Lanes<V>::kParts; ++i) made.part[i] = V::power_of_two(a.part[i]);
    return made;
}

template <class V>
float sum(const Lanes<V>& lanes) {
    float values[kTile];
    lanes.store(values);
    for (int half = kTile / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) values[i] += values[i + half];
    return values[0];
}

// Horner's rule, highest power first.
template <class V, int N>
Lanes<V> polynomial(const Lanes<V>& x, const float (&coefficients)[N]) {
    Lanes<V> value = Lanes<V>::splat(coefficients[0]);
    for (int i = 1; i < N; ++i) value = multiply_add(value, x, Lanes<V>::splat(coefficients[i]));
    return value;
}

// e^x for x <= 0, to 2 units in the last place; below -87 it stays at e^-87.
template <class V>
Lanes<V> exp(const Lanes<V>& exponent) {
    using L = Lanes<V>;
    static constexpr float kTaylor[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    const L x = largest(L::splat(-87.0f), exponent);
    const L round = L::splat(12582912.0f);  // adding 1.5 * 2^23 rounds to a whole number
    const L n = multiply_add(x, L::splat(1.44269504f), round) - round;
    // ln 2 in two parts, the first with so few digits that n times it is exact
    const L rest = multiply_add(n, L::splat(2.12194440e-4f), multiply_add(n, L::splat(-0.693359375f), x));
    return polynomial(rest, kTaylor) * power_of_two(n);
}

// The probability that a normal variable exceeds |x|, erfc(|x| / sqrt 2) / 2, to 1e-8.
template <class V>
Lanes<V> normal_tail(const Lanes<V>& x) {
    using L = Lanes<V>;
    // Fitted by least squares: exp(-x^2 / 2) times this polynomial in 1 / (1 + |x| / 4).
    static constexpr float kTail[] = {0.038479804f, -0.220862169f, 0.453302118f, -0.411723427f, 0.370163709f, -0.0560691585f, 0.134102058f, 0.0920792981f, 0.100567319f, -3.95511871e-05f};
    const L one = L::splat(1.0f);
    const L absolute = largest(x, L::splat(0.0f) - x);
    const L t = one / multiply_add(absolute, L::splat(0.25f), one);
    return polynomial(t, kTail) * exp<V>(absolute * absolute * L::splat(-0.5f));
}

// By the bits: compilers find the largest integer in lanes, not the largest float. A NaN is larger than all numbers.
template <class V>
float largest_absolute(const float* x, int64_t n) {
    int32_t most = 0;
    for (int64_t i = 0; i < n; ++i) {
        const auto bits = static_cast<int32_t>(bits_of(x[i]) & 0x7fffffffu);
        most = bits > most ? bits : most;
    }
    return from_bits(static_cast<uint32_t>(most));
}

// Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits: vector code on any compiler.
template <class V>
uint32_t nearest_whole(float x) {
    return bits_of(x + 12582912.0f) - 0x4b400000u;
}
