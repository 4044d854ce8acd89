r"""Answers that graders take for the same, and answers that they tell apart, by kind.

The kinds follow the published rules of the graders of MATH, AIME, HMMT and GPQA; the pairs are ours. A line holds an
answer and, behind each ~, one that is the same, or that differs; a line that begins with ~ goes on with the one before.

Of the 999 and 579 pairs, the normal forms of before were wrong in 719 and 14, math-verify 0.9 alone in 219 and 57.
"""

from __future__ import annotations

import re

SAME = {
    "MATH: fractions in several spellings": r"""
        0.5 ~ 1/2 ~ \frac12 ~ \frac{1}{2} ~ \dfrac{1}{2} ~ \tfrac12 ~ .5 ~ 0.50 ~ ½ ~ $\frac{1}{2}$ ~ \frac1{2}
            ~ \frac{1}2 ~ \frac 1 2 ~ 2/4 ~ 1 / 2
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
        42 ~ 042 ~ 42. ~ $42$ ~ \(42\) ~ \[42\] ~ **42** ~ \boxed{42} ~ \boxed{\boxed{42}} ~ $\boxed{42}$ ~ 42.0 ~ +42
            ~ {42} ~ (42) ~ \text{42} ~ \mathbf{42} ~ ４２
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
        12 ~ 12 cm ~ 12\text{ cm} ~ 12\,\text{cm} ~ 12\mathrm{~cm} ~ 12 \text{ cm}^2 ~ 12\text{ square units}
            ~ 12 square units ~ 12 units ~ 12 apples ~ 12\text{ apples} ~ 12 \mbox{ inches} ~ 12 meters ~ 12 m/s
            ~ 12\ \mathrm{m/s}
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
        \{1,2\} ~ \{2,1\} ~ 1,2 ~ 2, 1 ~ 1 \text{ and } 2 ~ 1 \text{ or } 2 ~ 1 and 2 ~ \left\{1,2\right\} ~ x=1,2
            ~ x=1 \text{ or } x=2 ~ x = 2, x = 1 ~ x \in \{1, 2\} ~ \{1, 2, 2\} ~ \lbrace 1,2\rbrace
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
        \begin{pmatrix}1&2\\3&4\end{pmatrix} ~ \begin{bmatrix}1 & 2 \\ 3 & 4\end{bmatrix}
            ~ \begin{pmatrix} 1 & 2 \\ 3 & 4 \\ \end{pmatrix} ~ \left(\begin{array}{cc}1&2\\3&4\end{array}\right)
            ~ \left[\begin{matrix}1&2\\3&4\end{matrix}\right]
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
        B ~ (B) ~ B. ~ B) ~ \text{B} ~ \text{(B)} ~ \textbf{(B)} ~ \mathrm{(B)} ~ (b) ~ b ~ **B** ~ Option B
            ~ option (B) ~ choice B ~ [B] ~ $B$ ~ $\boxed{B}$ ~ Answer B
        B ~ (B) 12 cm ~ B. 12 cm ~ B) 12 ~ (B) $x^2+1$ ~ \textbf{(B) } 12 ~ \textbf{(B)}\ 12 ~ (B) \text{ the second}
            ~ B: the second ~ (B): 12 ~ \text{(B) } 12 ~ (b) 12 ~ b) 12
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
        x+10^{-20} ~ x+2\cdot 10^{-20}
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
        \begin{pmatrix}1&2\\3&4\end{pmatrix} ~ \begin{vmatrix}1&2\\3&4\end{vmatrix}
            ~ \begin{pmatrix}1&3\\2&4\end{pmatrix} ~ \begin{pmatrix}1&2\end{pmatrix} ~ -2
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


MORE_SAME = {
    "written before any of them was tried": r"""
        \frac{3}{2} ~ \frac{6}{4} ~ 1.5 ~ 3/2
        14 ~ 14\text{ inches} ~ 14'' ~ 14 in. ~ $14
        \text{(A)} ~ A ~ (A) ~ \textbf{A}
        6 - 5i ~ -5i+6 ~ 6-5\cdot i ~ 6 - 5\imath
        \frac{5}{13} ~ 5/13 ~ \left(\frac{5}{13}\right) ~ \frac{5}{13}. ~ \frac{5}{13} \text{ or } 5/13
        (-2,1) ~ (-2, 1) ~ x \in (-2,1) ~ -2 < x < 1 ~ \{x | -2<x<1\} ~ 1 > x > -2
        x=4 ~ 4 ~ \text{x = 4} ~ x\! =\! 4
        \frac{\sqrt{3}}{3} ~ \frac{1}{\sqrt3} ~ \frac{\sqrt3}3 ~ \dfrac{\sqrt{3}}{3} ~ sqrt(3)/3 ~ √3/3 ~ 1/√3
        3\sqrt{13} ~ \sqrt{117} ~ 3 \sqrt {13} ~ 3√13
        p - q ~ -q+p ~ p-q
        \left( 3, \frac{\pi}{2} \right) ~ (3,\pi/2) ~ (3, \frac{\pi}{2})
        120^\circ ~ 120 ~ 120 degrees ~ m\angle A=120^\circ
        5.4 \text{ cents} ~ 5.4 ~ 5.4 cents ~ 5.4¢
        11\sqrt2 ~ 11 \sqrt{2} ~ \sqrt{242}
        \frac{9}{256} ~ 9/256 ~ 0.03515625
        \begin{pmatrix} -1 \\ 0 \end{pmatrix} ~ \begin{pmatrix}-1\\0\end{pmatrix}
            ~ \left( \begin{array}{c} -1 \\ 0 \end{array} \right) ~ \begin{bmatrix}-1\\0\end{bmatrix}
        y = -2x + 3 ~ -2x+3 ~ y=3-2x ~ y+2x=3
        (6,31,-1) ~ (6, 31, -1)
        1,-2 ~ -2,1 ~ \{-2, 1\} ~ x=1,-2 ~ x = -2 \text{ and } x=1 ~ x_1 = 1, x_2 = -2
        2k+2 ~ 2(k+1) ~ 2k + 2
        x^3+3x-6 ~ 3x-6+x^3 ~ x^3 + 3 x - 6
        \frac{243}{625} ~ 0.3888
        10080 ~ 10,080 ~ 10{,}080 ~ 10\,080
        \$32,\!348 ~ 32348 ~ 32,348 ~ \$32,348 ~ \$32{,}348.00
        \text{Navin} ~ Navin ~ navin. ~ \text{ Navin}
        \frac{1}{2}x+3 ~ \frac{x}{2}+3 ~ 0.5x+3 ~ \frac12x+3 ~ x/2 + 3
        -\frac{1}{3} ~ -1/3 ~ \frac{-1}{3} ~ -\frac13 ~ -0.\overline{3} ~ −1/3
        [-2,7] ~ -2\le x\le7 ~ x\in [-2, 7] ~ \left[-2,7\right] ~ [-2;7]
        (0,9)\cup(9,36) ~ (9,36) \cup (0,9) ~ (0, 9) ∪ (9, 36)
        2x^2 - 4x + 2 ~ 2(x-1)^2
        1\frac{4}{5} ~ 1.8 ~ \frac95 ~ 9/5 ~ 1 4/5
        \cot x ~ \frac{\cos x}{\sin x} ~ \frac{1}{\tan x} ~ \cot(x)
        e^{-x} ~ \frac{1}{e^x} ~ \exp(-x)
        \ln\frac{3}{2} ~ \ln 3-\ln 2 ~ \ln(1.5) ~ \ln(3/2)
        \frac{\pi^2}{6} ~ \pi^2/6 ~ π²/6
        n! ~ n\cdot (n-1)!
        3^{2n} ~ 9^n
        -1 \pm i ~ -1+i, -1-i ~ -1 ± i
        C_{10}^{2} ~ C_{10}^2
        \frac{1}{2}\ln 2 ~ \ln\sqrt{2} ~ \frac{\ln 2}{2}
        4 \text{ and } 9 ~ 4,9 ~ 4, 9 ~ 4 and 9 ~ 9, 4 ~ 4 \text{ or } 9 ~ \text{4 and 9}
        80 \text{ kilometers per hour} ~ 80 ~ 80 km/h
        5\text{ times} ~ 5 ~ 5 times
        x>-3 ~ x > -3 ~ (-3,\infty) ~ \left(-3, \infty\right)
        \text{no solution} ~ No solution ~ no solution.
        2.5\times10^{-4} ~ 0.00025 ~ 2.5e-4 ~ 2.5 \cdot 10^{-4} ~ 2.5 x 10^{-4}
        3.0 \times 10^8 \text{ m/s} ~ 3\times10^8 ~ 300000000 ~ 3 \times 10^{8}\ \mathrm{m\,s^{-1}}
        (A) ~ A) ~ A. ~ **(A)** ~ \boxed{\text{A}} ~ \boxed{(A)} ~ Option (A) ~ (A) the first one ~ A. the first one
        4\pi r^2 ~ 4 \pi r^{2} ~ 4r^2\pi
        v = \sqrt{2gh} ~ \sqrt{2gh} ~ v=\sqrt{2 g h}
        \frac{GM}{r^2} ~ GM/r^2 ~ \frac{G M}{r^{2}}
        2^{2021}-1 ~ -1+2^{2021}
        \frac{2021!}{2020!} ~ 2021
        \frac{n}{n+1} ~ 1-\frac{1}{n+1}
        \{(1,2),(2,1)\} ~ (1,2),(2,1) ~ (2,1), (1,2) ~ (1, 2) \text{ and } (2, 1)
        \arctan 2 ~ \tan^{-1} 2 ~ \arctan(2) ~ arctan(2)
        \sqrt{2}+\sqrt{3} ~ \sqrt3+\sqrt2 ~ \sqrt{5+2\sqrt6}
        3 \cdot 2^{5} ~ 96
        \lceil 2.1\rceil ~ 3
        a^2-b^2 ~ (a-b)(a+b)
        \frac{a+b}{c} ~ (a+b)/c ~ \frac{a}{c}+\frac{b}{c}
        0.1 ~ \frac{1}{10} ~ 10^{-1} ~ .1
        \frac{1}{1000000} ~ 10^{-6} ~ 0.000001
        \text{June 20} ~ June 20
        6:00 ~ 06:00 ~ 6:00
        \text{10:30 AM} ~ 10:30 a.m. ~ 10:30 AM
        B_2 ~ B_{2}
        \overline{AB} ~ \overline{AB}
        \triangle ABC ~ \triangle{ABC}
        2, 3, 5, 7 ~ 2,3,5,7 ~ {2,3,5,7}
        \log_{10} 2 ~ \log_{10}(2)
        x \le 2 \text{ or } x \ge 5 ~ (-\infty,2]\cup[5,\infty) ~ x\leq 2 or x\geq 5
        x = \frac{-b \pm \sqrt{b^2-4ac}}{2a} ~ \frac{-b \pm \sqrt{b^2-4ac}}{2a}
        k=-1 ~ -1 ~ k = -1
        (2,3) ~ x=2,\ y=3 ~ (x, y) = (2, 3) ~ x = 2, y=3
        \displaystyle \sum_{k=1}^{n} k ~ \frac{n(n+1)}{2}
        -\infty ~ −∞ ~ -∞
        1/2 ~ .5
        3\% ~ 3 ~ 3 percent ~ \text{3%} ~ 3 \text{%}
        $\frac{1}{3}$ ~ \(\frac{1}{3}\) ~ $$\frac{1}{3}$$ ~ \[ \frac{1}{3} \]
        \mathbf{r} = \langle 1, 2, 3 \rangle ~ (1,2,3) ~ \langle 1,2,3 \rangle
        2\mathbf{i}+3\mathbf{j} ~ 3\mathbf{j}+2\mathbf{i}
        60^\circ, 120^\circ ~ 60° and 120° ~ 120^\circ \text{ and } 60^\circ
        \$12.50 ~ 12.5 ~ 12.50 dollars ~ \$12\frac12
        \text{C} ~ C ~ c ~ (c)
    """,
    "the same once more, after the faults of the first had been mended": r"""
        6 - 5i ~ 6 - 5\imath
        \text{(D)} ~ D ~ (D) None of these ~ \textbf{(D)}\ \text{None} ~ (\text{D}) ~ \mathrm{D} ~ $\text{D}$ ~ "D"
            ~ *D* ~ D) none of the above ~ Choice D ~ \boldsymbol{D}
        1/2 ~ {1}/{2} ~ \frac{1}{2}\, ~ 1 ⁄ 2 ~ \frac{{1}}{{2}} ~ +\frac12 ~ \left\frac{1}{2}\right ~ (\frac{1}{2})
            ~ 1\over 2 ~ {1 \over 2} ~ \frac{0.5}{1}
        -\frac{7}{4} ~ -1\frac{3}{4} ~ -1 3/4 ~ -1.75 ~ - \frac{7}{4} ~ \frac{-7}{4} ~ \frac{7}{-4}
        100 ~ 10^2 ~ 1e2 ~ 100.000 ~ 1.00 \times 10^2 ~ 100\text{ cm} ~ 100\text{ ways} ~ N=100 ~ 100 \text{ (meters)}
        8 ~ 2^3 ~ 2³ ~ 2**3 ~ \sqrt{64} ~ 4+4 ~ 4\cdot 2 ~ 16/2 ~ |-8| ~ \lvert -8\rvert ~ 8\,\text{units}^2
        x+2 ~ 2+x ~ (x+2) ~ y = x+2 ~ \frac{x^2-4}{x-2} ~ x + 2.0
        (2,-3) ~ (2, -3) ~ ( 2, −3 ) ~ \left(2 , -3 \right) ~ (4/2, -3) ~ x = 2, y = -3 ~ (x,y) = (2,-3)
        \sqrt{5} ~ 5^{1/2} ~ 5^{0.5} ~ √5 ~ \sqrt{5}\text{ cm} ~ \frac{5}{\sqrt{5}}
        x \in \{-1, 3\} ~ -1, 3 ~ x=-1 \text{ or } x=3 ~ x = -1, 3 ~ \{3,-1\} ~ x=-1\text{ and }3 ~ x = 3 or x = -1
        0 \le x < 5 ~ [0,5) ~ x \in [0,5) ~ 5>x\geq0 ~ 0≤x<5
        \frac{\ln 2}{3} ~ \frac13\ln 2 ~ \ln(2)/3 ~ \ln(2^{1/3}) ~ ln(2)/3
        (x-2)(x+3) ~ x^2+x-6 ~ (x+3)(x-2)
        2\sqrt{2}-1 ~ -1+2\sqrt2 ~ \sqrt{8}-1
        2 + \sqrt{3}i ~ 2+i\sqrt{3} ~ \sqrt{3}i+2
        e ~ e^1 ~ \mathrm{e}
        \frac{1}{e} ~ e^{-1} ~ 1/e
        45 ~ 45^{\circ} ~ \theta=45^\circ ~ 45\text{°} ~ 45 deg ~ 45\textdegree
        1.6\times 10^{-19}\text{ C} ~ 1.6e-19 ~ 1.6 \times 10^{-19} ~ 1.6×10^-19 C ~ 16\times 10^{-20}
        300\text{ K} ~ 300 K ~ 300 ~ T = 300\,\mathrm{K}
        4.0\text{ eV} ~ 4 eV ~ 4.0 ~ E=4\,\text{eV}
        2\text{ mol} ~ 2 mol ~ 2 ~ 2\text{ moles}
        H_2O ~ \text{H}_2\text{O} ~ \mathrm{H_2O} ~ H₂O
        \text{acetic acid} ~ Acetic acid ~ acetic  acid
        \text{Monday} ~ Monday ~ monday
        \text{red and blue} ~ blue and red
        113 ~ \boxed{113}. ~ $113$. ~ 113 \text{.} ~ \textbf{113} ~ \mathbf{113} ~ 0113
        809 ~ 809.0 ~ 809 ~ m+n=809 ~ p + q = 809 ~ a+b+c = 809
        \frac{2\sqrt{10}}{5} ~ 2\sqrt{10}/5 ~ \frac{2}{5}\sqrt{10} ~ \sqrt{\frac{8}{5}} ~ \sqrt{1.6}
            ~ \frac{4}{\sqrt{10}}
        2^{1/3} ~ \sqrt[3]{2} ~ \sqrt[3]2 ~ 2^{\frac{1}{3}} ~ ∛2
        \frac{n(n-1)}{2} ~ \binom{n}{2} ~ {n \choose 2} ~ \frac{n^2-n}{2}
        \tan\theta ~ \frac{\sin\theta}{\cos\theta} ~ tan θ ~ \tan(\theta)
        1-\frac{1}{e} ~ \frac{e-1}{e} ~ 1-e^{-1}
        -x^2+4 ~ 4-x^2 ~ (2-x)(2+x)
        x \geq 1 ~ [1,\infty) ~ x ≥ 1 ~ \{x \in \mathbb{R} : x \ge 1\} ~ [1,+∞) ~ 1 \leq x
        \mathbb{R}\setminus\{0\} ~ \mathbb{R} \setminus \{0\}
        1,3,5 ~ 1, 3, 5 ~ 1, 3, \text{ and } 5 ~ 5,3,1 ~ \{1,3,5\} ~ 1,3,\text{and }5 ~ x=1,3,5
        (1,2,3) ~ (1, 2, 3) ~ 1,2,3
        a_n = 2n+1 ~ 2n+1 ~ a_n=1+2n
        f^{-1}(x) = \frac{x-1}{2} ~ \frac{x-1}{2} ~ f^{-1}(x)=(x-1)/2
        f(x) = 3x ~ 3x
        y=\frac{1}{2}x-3 ~ y = 0.5x - 3 ~ 2y = x-6 ~ x - 2y = 6 ~ \frac{x}{2}-3
        x^2 + (y-1)^2 = 4 ~ x^2+y^2-2y-3=0
        3:4:5 ~ 3 : 4 : 5
        12:05 ~ 12:05
        4\frac{1}{2}\% ~ 4.5\% ~ 4.5 ~ 9/2
        \$0.75 ~ 0.75 ~ \$.75 ~ 3/4
        1 hour ~ 1 ~ 1\text{ hr}
        20,\!000 ~ 20000 ~ 20 000 ~ 20{,}000 ~ 2\times10^4
        \text{True} ~ true ~ TRUE
        5x^2 ~ 5 x^2 ~ 5\cdot x^2 ~ 5*x^2 ~ 5x^{2}
        \frac{x}{x^2+1} ~ x/(x^2+1) ~ \frac{x}{1+x^2}
        \max\{a,b\} ~ \max\{a, b\}
        \frac{\pi}{6},\frac{5\pi}{6} ~ \pi/6, 5\pi/6 ~ x=\frac{\pi}{6},\frac{5\pi}{6}
            ~ \frac{5\pi}{6} \text{ and } \frac{\pi}{6}
        6\text{ and }7 ~ 6,7
        \text{odd} ~ odd.
        \infty ~ +∞ ~ \text{infinity}
        \frac{3}{4}\text{ cup} ~ 3/4 ~ 0.75
        16\text{ inches} ~ 16 in ~ 16" ~ 16
        1\text{ foot} ~ 1 ft ~ 1
        10\text{ dollars} ~ \$10 ~ 10 dollars ~ 10
    """,
    "and a third time": r"""
        17 ~ 17 \text{ people} ~ \text{17 people} ~ 17\text{ years old} ~ 17 \, \text{units} ~ $x=17$
            ~ 17\text{ (units)} ~ 17\% ~ +17
        \frac{25}{8} ~ 3\frac{1}{8} ~ 3.125 ~ 25/8 ~ 3 1/8 ~ \frac{25}{8}\text{ hours}
        \text{Thursday} ~ Thursday ~ \textit{Thursday} ~ \mbox{Thursday} ~ Thursday.
        \left[\frac{1}{2},\frac{4}{3}\right] ~ [1/2, 4/3] ~ [0.5,\frac43] ~ \frac12 \le x \le \frac43
        (-\infty, -8) \cup (8, \infty) ~ (8,\infty)\cup(-\infty,-8) ~ x<-8 \text{ or } x>8
            ~ x \in (-\infty,-8)\cup(8,\infty)
        9,-7 ~ -7, 9 ~ x=9, x=-7 ~ x=9\text{ or }-7 ~ \{-7,9\}
        \frac{-1+\sqrt{3}}{2} ~ \frac{\sqrt3-1}{2} ~ -\frac12+\frac{\sqrt3}{2} ~ -\frac{1-\sqrt{3}}{2}
        x^2-2x+1 ~ (x-1)^2 ~ (1-x)^2
        144\pi ~ 144 \pi ~ \pi\cdot144 ~ 144π ~ 144\pi\text{ cubic inches} ~ 144 * \pi ~ V=144\pi
        8.5\times 10^{-5} ~ .000085 ~ 8.5E-5 ~ 8.5 \times 10^{-5}\,\text{M}
        2:1 ~ 2 : 1 ~ \text{2:1}
        6^{\circ}\text{C} ~ 6 ~ 6°C ~ 6 degrees Celsius ~ 6\,^\circ\mathrm{C}
        \{-1,0,1\} ~ 0,1,-1 ~ \{0, \pm 1\} ~ 0, \pm1 ~ x=0,\pm 1
        (3,4,5) ~ (3, 4, 5) ~ 3,4,5
        \frac{5\sqrt{3}}{3} ~ \frac{5}{\sqrt3} ~ 5/\sqrt{3} ~ 5\frac{\sqrt3}{3}
        1:30\text{ PM} ~ 1:30 p.m. ~ 01:30 pm
        \$18.90 ~ 18.90 ~ 18.9 ~ \$ 18.90 ~ \$18.9
        -\frac{2}{3}x+5 ~ 5-\frac{2x}{3} ~ y=-\frac23x+5
        f(x)=\sin x ~ \sin(x) ~ f(x) = \sin{x} ~ sin x
        \log_3 5 ~ \frac{\ln 5}{\ln 3} ~ \log_{3}5 ~ \log_3(5)
        3+2\sqrt{2} ~ (1+\sqrt2)^2 ~ 3+\sqrt{8}
        \frac{1}{2},-\frac{1}{2} ~ \pm\frac12 ~ \pm 0.5 ~ -\frac12, \frac12 ~ ±1/2
        \infty ~ +\infty
        0 ~ 0.00 ~ 0\% ~ x=0 ~ 0^\circ ~ \text{0} ~ -0
        \text{(B) and (D)} ~ B, D ~ B and D ~ (B), (D)
        C ~ (C) 3.2 eV ~ \mathbf{(C)} ~ C. 3.2 eV ~ \boxed{\textbf{(C)}} ~ \text{C)} ~ C:
        \text{Answer: } 5 ~ 5
        5 ~ 5.0\text{ m} ~ 5\ \text{m} ~ 5m/s ~ 5~\mathrm{kg\cdot m^2}
        \frac{3}{5}i ~ 0.6i ~ \frac{3i}{5}
        \left\lfloor\frac{n}{2}\right\rfloor ~ \lfloor n/2\rfloor
        (-1)^{n+1} ~ (-1)^{n-1} ~ -(-1)^n
        n^2-1 ~ (n-1)(n+1) ~ (n+1)(n-1)
        \cos^2 x ~ 1-\sin^2 x ~ (\cos x)^2
        \sum_{i=1}^{10} i ~ 55
        4! ~ 24 ~ 4\cdot3\cdot2\cdot1
        \begin{bmatrix}0&1\\-1&0\end{bmatrix} ~ \begin{pmatrix}0 & 1\\ -1 & 0\end{pmatrix}
        \text{false} ~ False ~ FALSE ~ \text{False}.
        x=\frac{\pi}{4}+k\pi ~ \frac{\pi}{4}+k\pi ~ x = k\pi+\frac{\pi}{4}
        10\sqrt{2}\approx 14.14 ~ 10\sqrt2
        5,\!040 ~ 5040 ~ 7! ~ 5 040
        99.9\% ~ 99.9
        y=3 ~ 3
        2^{64}-1 ~ 18446744073709551615 ~ 18,446,744,073,709,551,615
        $x \in \mathbb{R}$ ~ \mathbb{R} ~ (-\infty,\infty) ~ all real numbers
    """,
}

MORE_DIFFERENT = {
    "written before any of them was tried": r"""
        \frac{3}{2} ~ \frac{2}{3} ~ 32 ~ 1 1/3 ~ 3,2
        14 ~ 41 ~ 1.4 ~ 14\pi ~ 1,4 ~ 14! ~ \sqrt{14}
        A ~ B ~ \text{(B)} ~ (D) ~ AB ~ a+1
        6-5i ~ 6+5i ~ -6+5i ~ 5i-6 ~ 1
        (-2,1) ~ [-2,1] ~ (-2,1] ~ (1,-2) ~ -2,1 and 3
        x=4 ~ x=-4 ~ y=4 ~ x^2=4 ~ x \ne 4
        \frac{\sqrt3}{3} ~ \sqrt3 ~ \frac{\sqrt{3}}{2} ~ 0.577
        120^\circ ~ 60^\circ ~ \frac{2\pi}{3} ~ 12
        1,-2 ~ 1,2 ~ -1,2 ~ 1 ~ -2
        y=-2x+3 ~ y=2x+3 ~ y=-2x-3 ~ x=-2y+3
        10,080 ~ 10080.5 ~ 10.080 ~ 1,008 ~ 10, 080
        2^{2021}-1 ~ 2^{2021}+1 ~ 2^{2020}-1 ~ 2^{2021}
        x>-3 ~ x<-3 ~ x\ge-3 ~ x>3 ~ (-\infty,-3)
        \ln 3 ~ \log_3 e ~ 3 ~ \ln 4
        \text{Navin} ~ Nav ~ Natalia
        2.5\times10^{-4} ~ 2.5\times 10^4 ~ 2.5\times 10^{-5} ~ 2.5
        (2,3) ~ (3,2) ~ x=3, y=2 ~ 2/3 ~ 5
        n! ~ n ~ (n-1)! ~ n^n
        \frac{n}{n+1} ~ \frac{n+1}{n} ~ \frac{n}{n-1}
        1\frac{4}{5} ~ \frac{14}{5} ~ 14/5 ~ \frac45
        2x^2-4x+2 ~ 2x^2+4x+2 ~ x^2-2x+1
        [-2,7] ~ [-7,2] ~ (-2,7) ~ [2,7]
        \begin{pmatrix}-1\\0\end{pmatrix} ~ \begin{pmatrix}0\\-1\end{pmatrix} ~ \begin{pmatrix}1\\0\end{pmatrix}
        \frac{GM}{r^2} ~ \frac{GM}{r} ~ \frac{gm}{r^2} ~ \frac{Gm}{R^2}
        M ~ m
        (ii) ~ (iii) ~ II ~ 2
        (v) ~ V ~ 5
        3 cm ~ 3 km ~ 3\text{ mm} ~ 3 inches
        100 cm ~ 1 m
        5\% ~ 0.05 ~ 5 cm
        \text{all real numbers} ~ \text{no real numbers} ~ 0
        true ~ false
        10:30 AM ~ 10:30 PM ~ 10.30
        2, 3 ~ 23 ~ 2.3 ~ 2/3 ~ 2,3,4
        -1\pm i ~ -1+i ~ 1\pm i
        \sqrt{x} ~ x^2 ~ \sqrt{y} ~ \sqrt[3]{x}
        x^2+y^2=4 ~ x^2+y^2=2 ~ (x+y)^2=4
        4 and 9 ~ 4 and 8 ~ 49 ~ 4/9
        \overline{AB} ~ \overline{CD} ~ AB+1
        f(x)=2x ~ f(x)=3x ~ 2
        0.1 ~ 0.01 ~ 1 ~ .11
        0 ~ 1 ~ \text{none} ~ x
    """,
    "the same once more, after the faults of the first had been mended": r"""
        D ~ B ~ (A) ~ d+1 ~ DD ~ 500 ~ \text{(C)}
        100 ~ 10 ~ 1000 ~ 100.1 ~ 10^3 ~ 1,00
        x+2 ~ x-2 ~ 2x ~ y+2 ~ x+3 ~ 2-x
        (2,-3) ~ (-3,2) ~ (2,3) ~ 2 ~ -1 ~ [2,-3)
        1.6\times10^{-19} ~ 1.6\times10^{19} ~ 1.6\times10^{-18} ~ 1.6
        300 K ~ 300 C ~ 30 K
        4 eV ~ 4 J ~ 4 keV
        H_2O ~ H_2O_2 ~ HO
        \text{acetic acid} ~ formic acid ~ acetic
        113 ~ 131 ~ 13 ~ 1130 ~ 113^2 ~ 11.3
        2^{1/3} ~ 2/3 ~ 2^{1/2} ~ 2^3
        \tan\theta ~ \tan\alpha ~ \cot\theta
        x \ge 1 ~ x>1 ~ x \le 1 ~ [1,2]
        1,3,5 ~ 1,3 ~ 1,3,6 ~ 135 ~ (5,3,1)
        a_n=2n+1 ~ 2n-1 ~ a_n = 2n
        y=\frac12 x-3 ~ y=\frac12x+3 ~ y=2x-3
        3:4:5 ~ 3:5:4 ~ 3,4,5 ~ 60
        6\text{ and }7 ~ 67 ~ 6 ~ 7,8
        16\text{ inches} ~ 16\text{ feet} ~ 6
        \frac{1}{e} ~ e ~ -e ~ 0.367879
        1-\frac1e ~ 1+\frac1e ~ 0.632
        \binom{n}{2} ~ \binom{n}{3} ~ \frac{n}{2}
        \frac{2\sqrt{10}}{5} ~ \frac{2\sqrt5}{10} ~ 1.2649 ~ \frac{2\sqrt{10}}{3}
        a ~ b ~ \alpha ~ 1
        p ~ q ~ P
        \alpha ~ \beta ~ a
        \text{Monday} ~ \text{Tuesday}
        5x^2 ~ 5x ~ 25x^2 ~ 5x^3
        (1,\infty) ~ [1,\infty) ~ (1,2) ~ (-\infty,1)
        \{1,2,3\} ~ (1,2,3) ~ \{1,2\} ~ [1,3]
        -4 ~ 4 ~ |4| ~ -\frac14
        7\times 10^3 ~ 7103 ~ 7\times 10^2 ~ 73
        3 ~ 3! ~ \sqrt3 ~ 3^2 ~ 3.0001 ~ 3\frac13 ~ 3i ~ \bar{3}
    """,
    "and a third time": r"""
        17 ~ 71 ~ 1.7 ~ 17.5 ~ -17 ~ 17^2 ~ 1,7 ~ 0.17
        \frac{25}{8} ~ 3\frac{8}{1} ~ \frac{8}{25} ~ 3.12 ~ 25.8
        9,-7 ~ 9,7 ~ -9,7 ~ 9 ~ 2
        144\pi ~ 144 ~ 144\pi^2 ~ 144e ~ 452.39
        2:1 ~ 1:2 ~ 2 ~ 21
        \{-1,0,1\} ~ \{0,1\} ~ \{-1,1\} ~ (-1,0,1) ~ [-1,1]
        1:30 PM ~ 1:30 AM ~ 130 ~ 13:30
        \log_3 5 ~ \log_5 3 ~ 5/3 ~ 1.465
        (-1)^{n+1} ~ (-1)^n ~ -1 ~ 1
        \cos^2 x ~ \sin^2x ~ \cos x ~ \cos(x^2)
        x<-8 \text{ or } x>8 ~ -8<x<8 ~ x>8 ~ x<-8
        C ~ B ~ G ~ c+1 ~ (D) 3.2 eV ~ 3.2
        0 ~ 00.1 ~ 1 ~ O ~ -1 ~ 10
        f(x)=\sin x ~ f(x)=\cos x ~ \sin
        V ~ v
        k ~ K
        \text{5 cats} ~ \text{6 cats}
        3 m ~ 3 ft
        7 ~ \text{seven}x ~ 77 ~ VII
        (0,1) ~ [0,1] ~ \{0,1\} ~ (1,0) ~ 0.1
        y=3 ~ x=3 ~ y=-3
        a^2 ~ a ~ 2a ~ A^2
        \frac{\pi}{4} ~ 45 ~ 0.785 ~ \frac{4}{\pi}
        \sqrt{-1} ~ -1 ~ 1
        \text{Alice} ~ \text{Alex} ~ A
        \text{increasing on }(0,1) ~ \text{decreasing on }(0,1)
        12,345 ~ 12.345 ~ 12 345.6 ~ 12, 345
        \begin{bmatrix}0&1\\-1&0\end{bmatrix} ~ \begin{bmatrix}0&-1\\1&0\end{bmatrix} ~ 1
        2 ~ 2x ~ 2\text{ or }3 ~ 2,2,3 ~ \{2,3\} ~ (2,2)
        e^{x} ~ e^{-x} ~ xe ~ e
        2x+3y=6 ~ 3x+2y=6 ~ 2x+3y=-6
        |x|<3 ~ |x|>3
        x<3 ~ x<4 ~ 3
    """,
}


def pairs(kinds: dict[str, str]) -> list[tuple[str, str, str]]:
    """(kind, answer, other answer) for each ~."""
    return [
        (kind, first.strip(), other.strip())
        for kind, block in kinds.items()
        for first, *others in (line.split(" ~ ") for line in _whole_lines(block))
        for other in others
    ]


def _whole_lines(block: str) -> list[str]:
    return re.sub(r"\n +~ ", " ~ ", block).strip().splitlines()
