r"""Answers that graders take for the same, and answers that they tell apart, by kind.

The kinds follow the published rules of the graders of MATH, AIME, HMMT and GPQA; the pairs are ours. A line holds an answer
and, behind each ~, one that is the same, or that differs.
"""

from __future__ import annotations

SAME = {
    "MATH: fractions in several spellings": r"""
        0.5 ~ 1/2 ~ \frac12 ~ \frac{1}{2} ~ \dfrac{1}{2} ~ \tfrac12 ~ .5 ~ 0.50 ~ ½ ~ $\frac{1}{2}$ ~ \frac1{2} ~ \frac{1}2 ~ \frac 1 2 ~ 2/4 ~ 1 / 2
        -\frac{3}{4} ~ \frac{-3}{4} ~ -3/4 ~ -0.75 ~ −\frac34 ~ -(3/4) ~ \frac{3}{-4} ~ -¾
        \frac{\pi}{2} ~ \pi/2 ~ \frac{1}{2}\pi ~ 0.5\pi ~ \frac\pi2 ~ π/2 ~ \tfrac{\pi}{2}
        \frac{10}{4} ~ 2.5 ~ 5/2
        \cfrac{7}{9} ~ 7/9
    """,
    "MATH: mixed numbers": r"""
        3/2 ~ 1 1/2 ~ 1\frac{1}{2} ~ 1\frac12 ~ 1½ ~ 1 \dfrac{1}{2} ~ 1.5 ~ 1\,\frac{1}{2} ~ 1 ½
        -\frac{3}{2} ~ -1 1/2 ~ -1\frac{1}{2}
        71/6 ~ 11 5/6 ~ 11\frac{5}{6} ~ 11\tfrac56
        5/4 ~ 1 1/4 ~ 1.25
    """,
    "MATH: thousands and leading zeros": r"""
        1000 ~ 1,000 ~ 1{,}000 ~ 1\,000 ~ 1\ 000 ~ 1,000.00 ~ 1000. ~ 1,\!000
        1234567 ~ 1,234,567 ~ 1 234 567 ~ 1{,}234{,}567
        1234.5 ~ 1,234.50 ~ 2469/2
        -12345 ~ -12,345
        10^6 ~ 1,000,000 ~ 1\,000\,000
    """,
    "AIME: integers from 000 to 999": r"""
        42 ~ 042 ~ 42. ~ $42$ ~ \(42\) ~ \[42\] ~ **42** ~ \boxed{42} ~ \boxed{\boxed{42}} ~ $\boxed{42}$ ~ 42.0 ~ +42 ~ {42} ~ (42) ~ \text{42} ~ \mathbf{42} ~ ４２
        7 ~ 007 ~ 07 ~ $$7$$ ~ x = 7 ~ `7`
        0 ~ 000 ~ -0 ~ 0.0 ~ 00
        204 ~ m+n = 204 ~ 204 \text{ ways}
    """,
    "MATH: signs and Unicode": r"""
        -3 ~ −3 ~ –3 ~ -3.0 ~ - 3
        2\pi ~ 2π ~ 2 \cdot \pi ~ 2*pi ~ 2\times\pi
        \sqrt{2} ~ √2 ~ \sqrt2 ~ \sqrt 2 ~ sqrt(2) ~ √(2) ~ \sqrt {2}
        12 ~ 3×4 ~ 3·4 ~ 3 \times 4 ~ 3*4
        x^2 ~ x² ~ x**2 ~ x^{2} ~ x^ 2 ~ xx
        \infty ~ ∞ ~ +\infty ~ infinity
        x \le 3 ~ x ≤ 3 ~ x \leq 3 ~ x <= 3 ~ x\leqslant3
        a_1 ~ a_{1} ~ a₁
    """,
    "MATH: percent": r"""
        50\% ~ 50 ~ 50% ~ 50 percent ~ 50 \% ~ 50\text{ percent} ~ 50.0\%
        12.5\% ~ 12.5
        \frac{100}{3}\% ~ 33\frac13\%
    """,
    "MATH: money": r"""
        \$1{,}000 ~ 1000 ~ \$1,000 ~ $1,000 ~ \$1000.00 ~ 1000 dollars ~ 1000\text{ dollars} ~ USD 1000 ~ \$ 1000
        \$4.50 ~ 4.5 ~ 4.50\text{ dollars}
        -\$5 ~ -5
        €20 ~ 20
    """,
    "MATH: degrees": r"""
        90^\circ ~ 90 ~ 90^{\circ} ~ 90° ~ 90 degrees ~ 90\text{ degrees} ~ 90\,^\circ ~ 90 ^\circ ~ 90\degree
        45.5^\circ ~ 45.5 ~ \frac{91}{2}^\circ
        20^\circ\text{C} ~ 20 ~ 20°C
        \angle ABC = 30^\circ ~ 30
    """,
    "MATH: units": r"""
        12 ~ 12 cm ~ 12\text{ cm} ~ 12\,\text{cm} ~ 12\mathrm{~cm} ~ 12 \text{ cm}^2 ~ 12\text{ square units} ~ 12 square units ~ 12 units ~ 12 apples ~ 12\text{ apples} ~ 12 \mbox{ inches} ~ 12 meters ~ 12 m/s ~ 12\ \mathrm{m/s}
        12 \text{ cm}^2 ~ 12\text{ square centimeters} ~ 12\text{ sq cm} ~ 12 cm^2 ~ 12 cm² ~ 12\ \mathrm{cm}^{2}
        60\text{ mph} ~ 60 ~ 60 miles per hour
        12\pi\text{ cm}^2 ~ 12\pi ~ 12\pi \text{ square units}
        2\sqrt{3}\text{ units} ~ 2\sqrt{3} ~ \sqrt{12}
        1.5 hours ~ 1.5 ~ 1 \frac{1}{2}\text{ hours} ~ 1 1/2 hours
        5 million ~ 5000000 ~ 5\text{ million} ~ 5\times 10^6
        3 kg ~ 3 ~ 3\text{ kilograms} ~ 3kg
        10 N ~ 10\text{ N} ~ 10
        9.8\,\mathrm{m/s^2} ~ 9.8 ~ 9.8 \text{ m/s}^2
        7\text{ minutes} ~ 7 min ~ 7
    """,
    "MATH: scientific notation": r"""
        1500 ~ 1.5\times10^3 ~ 1.5 \times 10^{3} ~ 1.5\cdot 10^3 ~ 1.5e3 ~ 1.5E3 ~ 1.5*10^3 ~ 15\times10^2 ~ 1.5 × 10³
        0.002 ~ 2\times 10^{-3} ~ 2e-3 ~ 2 \cdot 10^{-3} ~ 2×10⁻³
        6.02\times10^{23} ~ 602 \times 10^{21} ~ 6.02e23
    """,
    "MATH: repeating decimals": r"""
        1/3 ~ 0.\overline{3} ~ 0.\bar{3} ~ .\overline{3}
        7/22 ~ 0.3\overline{18}
    """,
    "MATH: layout that means nothing": r"""
        \left(1,\,2\right) ~ (1,2) ~ (1, 2) ~ \big(1,2\big) ~ ( 1 , 2 ) ~ $(1,2)$ ~ (1,\;2) ~ (1;2)
        \displaystyle\frac{3}{5} ~ \frac{3}{5} ~ \left(\frac{3}{5}\right)
        x+1 ~ x + 1 ~ \ x\,+\,1 ~ {x+1} ~ 1+x ~ \mathbf{x}+1
    """,
    "MATH: names of the unknown": r"""
        x=5 ~ 5 ~ x = 5 ~ 5 = x ~ $x=5$ ~ x = 5.0 ~ x=\frac{10}{2}
        y = 2x+1 ~ 2x+1 ~ y=1+2x ~ y - 2x = 1 ~ 2x - y + 1 = 0
        f(x) = x^2 ~ x^2 ~ f(x)=x\cdot x
        A = \pi r^2 = 25\pi ~ 25\pi ~ A=25\pi
        \text{Area} = 12 ~ 12
        AB = 5 ~ 5 ~ |AB| = 5
        2 + 3 = 5 ~ 5
        P(A) = \frac14 ~ 0.25
        \theta = 30^\circ ~ 30
        a_{10} = 55 ~ 55
        n \ge 3 ~ n\geq 3 ~ 3 \le n
        x' = 4 ~ 4
    """,
    "HMMT: expressions": r"""
        2\sqrt{3} ~ \sqrt{12} ~ 2\cdot\sqrt3 ~ \sqrt3\cdot 2 ~ \frac{6}{\sqrt{3}}
        \frac{\sqrt{2}}{2} ~ \frac{1}{\sqrt{2}} ~ \sqrt{\frac12} ~ sqrt(2)/2 ~ 2^{-1/2}
        (x+1)^2 ~ x^2+2x+1 ~ 1+2x+x^2 ~ (x+1)(x+1)
        1+\sqrt{2} ~ \sqrt{2}+1 ~ \sqrt{3+2\sqrt{2}}
        \binom{5}{2} ~ 10 ~ \dbinom{5}{2}
        5! ~ 120
        2^{10} ~ 1024
        \log_2 8 ~ 3
        \ln 6 ~ \ln 2+\ln 3 ~ \log_e 6
        e^{2} ~ e^2 ~ \mathrm{e}^2 ~ e\cdot e
        \sin 30^\circ ~ \frac12
        3+4i ~ 4i+3 ~ 3+4\mathrm{i}
        (1+i)^2 ~ 2i
        \sqrt[3]{8} ~ 2 ~ 8^{1/3}
        \frac{x+1}{x^2-1} ~ \frac{1}{x-1}
        2^{n+1} ~ 2\cdot 2^n
        n(n+1)/2 ~ \frac{n(n+1)}{2} ~ \frac{n^2+n}{2}
        \frac{1}{x+1} ~ 1/(x+1) ~ (x+1)^{-1}
        \sqrt{x} ~ x^{1/2} ~ x^{0.5}
        ab ~ ba ~ a \cdot b
        e^{i\pi} ~ -1
        \frac{1+\sqrt{5}}{2} ~ \frac{\sqrt5+1}{2} ~ 0.5+0.5\sqrt5
        2-\sqrt3 ~ -\sqrt3+2
        \lfloor 3.5 \rfloor ~ 3
        |{-3}| ~ 3
        x^3-1 ~ (x-1)(x^2+x+1)
        -\frac{x}{y} ~ \frac{-x}{y} ~ -x/y
        2017^{2} ~ 4068289
        \frac{2^{10}-1}{3} ~ 341
    """,
    "MATH: equations": r"""
        x^2+y^2=25 ~ y^2+x^2=25 ~ 25=x^2+y^2 ~ x^2+y^2-25=0
        2x+4y=6 ~ x+2y=3
        (x-1)^2+(y+2)^2=9 ~ (y+2)^2+(x-1)^2=9
        x \neq 3 ~ x \ne 3 ~ x≠3
    """,
    "MATH: tuples, points and vectors": r"""
        (1,2) ~ \langle 1,2\rangle ~ (x,y)=(1,2) ~ x=1, y=2 ~ y=2, x=1 ~ x = 1 \text{ and } y = 2 ~ (1.0, 2)
        (\frac12, 3) ~ (0.5, 3) ~ \left(\frac{1}{2},3\right)
        (\sqrt{12}, 0) ~ (2\sqrt3, 0)
        (1,000, 2,000) ~ (1000, 2000)
        (1, -2, 3) ~ (1,-2,3) ~ (a,b,c)=(1,-2,3)
        P(1,2) ~ P(1, 2)
        (2, \pi/3) ~ (2,\frac{\pi}{3})
    """,
    "MATH: sets and lists of solutions": r"""
        \{1,2\} ~ \{2,1\} ~ 1,2 ~ 2, 1 ~ 1 \text{ and } 2 ~ 1 \text{ or } 2 ~ 1 and 2 ~ \left\{1,2\right\} ~ x=1,2 ~ x=1 \text{ or } x=2 ~ x = 2, x = 1 ~ x \in \{1, 2\} ~ \{1, 2, 2\} ~ \lbrace 1,2\rbrace
        \pm 2 ~ 2, -2 ~ x=\pm 2 ~ \{-2,2\} ~ ±2 ~ -2 \text{ or } 2
        1\pm\sqrt{2} ~ 1-\sqrt2, 1+\sqrt2 ~ 1+\sqrt{2}, 1-\sqrt{2}
        \frac{1 \pm \sqrt5}{2} ~ \frac{1+\sqrt5}{2}, \frac{1-\sqrt5}{2}
        1,2,3 ~ 3,2,1 ~ 1, 2, 3 ~ 1, 2, and 3 ~ \{1,2,3\} ~ 1;2;3
        1,000 and 2,000 ~ 1000, 2000
        \emptyset ~ \varnothing ~ \{\} ~ ∅
        (1,2),(3,4) ~ (3,4),(1,2) ~ \{(1,2),(3,4)\} ~ (1,2) \text{ and } (3,4)
        \{5\} ~ 5
        \{a, b\} ~ \{b,a\}
    """,
    "MATH: intervals and inequalities": r"""
        [1,2] ~ \left[1,2\right] ~ [1, 2] ~ x\in[1,2] ~ 1\le x\le 2 ~ 2 \ge x \ge 1 ~ [1.0,2]
        (3,\infty) ~ x>3 ~ 3<x ~ x \in (3,\infty) ~ (3,+\infty) ~ (3, ∞) ~ \{x : x > 3\} ~ \{x \mid x>3\}
        (1,3] ~ 1<x\le 3 ~ ]1,3] ~ \left(1,3\right]
        (-\infty,1)\cup(2,\infty) ~ (2,\infty)\cup(-\infty,1) ~ (-∞, 1) ∪ (2, ∞)
        (-\infty,\infty) ~ \mathbb{R} ~ ℝ ~ \text{all real numbers} ~ x\in\mathbb{R}
        [0,\frac12) ~ [0, 0.5) ~ 0 \leq x < \frac{1}{2}
        x \le -2 ~ (-\infty, -2]
        x>3 ~ 2x > 6 ~ -x < -3
    """,
    "MATH: matrices": r"""
        \begin{pmatrix}1&2\\3&4\end{pmatrix} ~ \begin{bmatrix}1 & 2 \\ 3 & 4\end{bmatrix} ~ \begin{pmatrix} 1 & 2 \\ 3 & 4 \\ \end{pmatrix} ~ \left(\begin{array}{cc}1&2\\3&4\end{array}\right) ~ \left[\begin{matrix}1&2\\3&4\end{matrix}\right]
        \begin{pmatrix}1/2\\3\end{pmatrix} ~ \begin{pmatrix}0.5\\3\end{pmatrix} ~ \begin{pmatrix}\frac12\\3\end{pmatrix}
    """,
    "MATH: words": r"""
        Yes ~ yes ~ \text{Yes} ~ YES ~ Yes. ~ **Yes** ~ \textbf{yes} ~ "yes" ~ \mathrm{Yes} ~ \text{ yes }
        \text{Evelyn} ~ Evelyn ~ evelyn
        \text{even} ~ Even
        \text{Alice and Bob} ~ Bob and Alice ~ \text{Alice}, \text{Bob} ~ Alice, Bob
        \text{odd function} ~ odd function ~ Odd Function
        true ~ True ~ \text{true}
        the circle ~ circle ~ \text{a circle}
        Zürich ~ zürich
        \text{Bob} ~ Bob
    """,
    "MATH: bases, times and ratios": r"""
        101_2 ~ 101_{2} ~ {101}_2 ~ 101_{\text{2}}
        2516_8 ~ 2516_{8}
        101_{\text{two}} ~ 101_{two}
        3:30 ~ 03:30 ~ \text{3:30}
        3:30 PM ~ 3:30 \text{ p.m.} ~ 3:30 pm
        2:3 ~ 2 : 3 ~ $2:3$
    """,
    "GPQA: letters": r"""
        B ~ (B) ~ B. ~ B) ~ \text{B} ~ \text{(B)} ~ \textbf{(B)} ~ \mathrm{(B)} ~ (b) ~ b ~ **B** ~ Option B ~ option (B) ~ choice B ~ [B] ~ $B$ ~ $\boxed{B}$ ~ Answer B
        B ~ (B) 12 cm ~ B. 12 cm ~ B) 12 ~ (B) $x^2+1$ ~ \textbf{(B) } 12 ~ \textbf{(B)}\ 12 ~ (B) \text{ the second} ~ B: the second ~ (B): 12 ~ \text{(B) } 12 ~ (b) 12 ~ b) 12
        \text{(C)} ~ C ~ (C) ~ \mathbf{C} ~ C. Ammonia
        A, C ~ A and C ~ C, A
        J ~ (J)
    """,
}

DIFFERENT = {
    "MATH: numbers": r"""
        12 ~ 13 ~ -12 ~ 1.2 ~ 21 ~ 120 ~ 12.1 ~ 1,2 ~ 1/2 ~ 12x ~ x ~ A ~ \text{yes} ~ 12\pi ~ 12i ~ \frac{1}{12} ~ 12!
        \frac{1}{2} ~ 2 ~ \frac{2}{1} ~ 12 ~ -\frac12 ~ 0.51 ~ 1
        0.333 ~ 1/3 ~ 0.\overline{3}
        0.333333 ~ \frac13
        2/3 ~ 0.67 ~ 0.6666667
        10^{-20} ~ 2\cdot10^{-20} ~ 0
        1000000 ~ 1000001
        1.0000001 ~ 1
        2^{100} ~ 2^{100}+1 ~ 2^{101}
        10^{30} ~ 10^{30}+1
        0 ~ \emptyset ~ 10^{-9}
    """,
    "MATH: mixed numbers": r"""
        1 1/2 ~ 11/2 ~ 1/2 ~ 1 1/3
        1\frac12 ~ \frac{1}{2} ~ \frac{11}{2} ~ 1 \cdot \frac{1}{2}
        2\frac{1}{3} ~ \frac23 ~ \frac{21}{3}
        -1\frac12 ~ -\frac12 ~ 1\frac12
    """,
    "MATH: thousands": r"""
        1, 234 ~ 1234 ~ 1,234
        (1,234) ~ 1234
        1,2,3 ~ 123 ~ 1,2 ~ 1,2,4
        1,000 ~ 1 ~ 1.000
        10,000 ~ 1,000
    """,
    "MATH: exact values": r"""
        \pi ~ 3.14 ~ 3.14159265 ~ \frac{22}{7} ~ 3.141592653589793
        \sqrt{2} ~ 1.41 ~ 1.41421356 ~ 2 ~ \sqrt{3} ~ 2^2
        e ~ 2.718281828 ~ 2.72
        \ln 2 ~ 0.693 ~ \ln 3 ~ \log 2
        \frac{\sqrt{2}}{2} ~ 0.7071 ~ \frac{\sqrt{3}}{2}
    """,
    "MATH: percent, money and units": r"""
        50\% ~ 0.5 ~ \frac12 ~ 5\% ~ 5000
        12 cm ~ 12 m ~ 12\text{ meters} ~ 13 cm ~ 12\text{ cm}^2 ~ 12\text{ kg}
        \$5 ~ €5 ~ 5 cents ~ \$50
        20^\circ\text{C} ~ 20^\circ\text{F}
        5\text{ hours} ~ 5\text{ minutes} ~ 300
        90^\circ ~ \frac{\pi}{2} ~ 9 ~ 90\%
        5 million ~ 5 ~ 5 billion
        3\text{ m} ~ 3m ~ 3\text{ mm}
    """,
    "MATH: names of the unknown": r"""
        x=5 ~ y=5 ~ x=-5 ~ x>5 ~ x \ne 5
        x ~ X ~ y ~ -x ~ x+1
        y=2x+1 ~ y=2x-1 ~ y=x+2 ~ 2x+y=1
        x+y=5 ~ x-y=5 ~ x+y=6 ~ 6
        f(x)=x^2 ~ f(x)=x^3 ~ g(x)=2x
        a=1, b=2 ~ a=2, b=1 ~ a=1
        n ~ N ~ n+1 ~ 2n
        r=3 ~ R=3
    """,
    "HMMT: expressions": r"""
        x^2+1 ~ x^2-1 ~ (x+1)^2 ~ x^2 ~ x^3+1
        2x ~ 2y ~ x^2 ~ 3x
        |x| ~ x
        \sqrt{x^2} ~ x
        3+4i ~ 3-4i ~ 7i ~ 7
        5! ~ 5 ~ 25 ~ 6!
        2\sqrt{3} ~ 3\sqrt{2} ~ \sqrt{6} ~ 6
        \binom{5}{2} ~ \frac52 ~ \binom{6}{2}
        \frac{a}{b} ~ \frac{b}{a} ~ ab
        2^n ~ n^2 ~ 2n ~ 2^{n+1}
        \sin x ~ \cos x ~ x
        \frac{1}{x-1} ~ \frac{1}{x+1} ~ x-1
        x_1 ~ x_2 ~ x
        10^{-20}x ~ 2\cdot 10^{-20}x
        e^{-40} ~ e^{-41}
        \frac{x+1}{2} ~ x+\frac12
        a-b ~ b-a
        1+\sqrt{2} ~ 1-\sqrt2 ~ \sqrt{3}
        \log_2 3 ~ \log_3 2
    """,
    "MATH: equations": r"""
        x^2+y^2=25 ~ x^2-y^2=25 ~ x^2+y^2=5 ~ 25
        2x+4y=6 ~ 2x+4y=7 ~ x+2y=6
        x \equiv 3 \pmod{5} ~ x \equiv 2 \pmod{5} ~ x \equiv 3 \pmod{7}
    """,
    "MATH: tuples and sets": r"""
        (1,2) ~ (2,1) ~ [1,2] ~ \{1,2\} ~ (1,2] ~ (1,3) ~ (1,2,3) ~ 12 ~ 1 ~ 2, 1
        \{1,2\} ~ \{1,3\} ~ \{1\} ~ \{1,2,3\} ~ 12 ~ [1,2]
        1,2 ~ 1,3 ~ 1 ~ 1,2,3 ~ -1,-2
        1,1,2 ~ 1,2,2
        \pm 2 ~ 2 ~ -2 ~ \pm 3
        1\pm\sqrt2 ~ 1+\sqrt2 ~ 1\pm\sqrt3
        (1,2),(3,4) ~ (1,2),(4,3) ~ (1,2)
        x=1,y=2 ~ x=2,y=1 ~ (2,1)
    """,
    "MATH: intervals and inequalities": r"""
        [1,2) ~ (1,2) ~ [1,2] ~ (1,2] ~ [1,3)
        x>3 ~ x<3 ~ x\ge 3 ~ y>3 ~ x=3 ~ 3
        1<x<2 ~ 1\le x<2 ~ 1<x\le 2
        (-\infty,1) ~ (1,\infty) ~ (-\infty,1]
        (-\infty,1)\cup(2,\infty) ~ (-\infty,1] \cup (2,\infty) ~ (1,2)
        \infty ~ -\infty ~ 8 ~ 0
        \mathbb{R} ~ \mathbb{Z} ~ R ~ \mathbb{C}
    """,
    "MATH: matrices": r"""
        \begin{pmatrix}1&2\\3&4\end{pmatrix} ~ \begin{vmatrix}1&2\\3&4\end{vmatrix} ~ \begin{pmatrix}1&3\\2&4\end{pmatrix} ~ \begin{pmatrix}1&2\end{pmatrix} ~ -2
        \begin{pmatrix}1\\2\end{pmatrix} ~ \begin{pmatrix}1&2\end{pmatrix} ~ \begin{pmatrix}2\\1\end{pmatrix}
    """,
    "MATH: words": r"""
        yes ~ no ~ true
        \text{Alice} ~ Bob ~ Alicia
        \text{odd} ~ even
        \text{Alice and Bob} ~ Alice ~ Alice and Carol
        \text{increasing} ~ \text{decreasing}
        Co ~ CO
        \text{not enough information} ~ \text{enough information}
    """,
    "MATH: bases, times and ratios": r"""
        101_2 ~ 5 ~ 101 ~ 101_3 ~ 110_2
        3:30 ~ 330 ~ 3:31 ~ 3.5
        3:30 am ~ 3:30 pm
        2:3 ~ 2/3 ~ 3:2 ~ 23
    """,
    "GPQA: letters": r"""
        B ~ C ~ (C) ~ D) 12 ~ 8 ~ 13 ~ \beta ~ BC
        (i) ~ I ~ (ii) ~ 1 ~ (I)
        (A) 12 ~ (B) 12 ~ 12
        A=5 ~ A
        (a) 5, (b) 6 ~ A ~ (a) 6, (b) 5
        e ~ E
        A, C ~ A ~ A, B ~ AC
        A+B ~ A ~ A-B
        A(1,2) ~ A ~ A(2,1)
    """,
}


def pairs(kinds: dict[str, str]) -> list[tuple[str, str, str]]:
    """(kind, answer, other answer) for each ~."""
    return [
        (kind, first.strip(), other.strip())
        for kind, block in kinds.items()
        for first, *others in (line.split(" ~ ") for line in block.strip().splitlines())
        for other in others
    ]
