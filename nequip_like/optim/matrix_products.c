/* Transposition, products and QR of small matrices, for one type of numbers: see matrix_passes.c, which includes this.

   Matrices lie row after row. What is summed in which order depends on shapes alone. */

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define LANES ((int64_t)(BYTES / sizeof(REAL)))
typedef REAL NAME(V) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
#define V NAME(V)
#define AT(P) (*(V *)(P))
#define ALWAYS static inline __attribute__((always_inline))

/* --- transposition: blocks of four by four go through registers, four of them at once where a vector has 16 lanes */

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define QUARTET 4
#endif
#endif
#ifdef QUARTET
typedef REAL NAME(Four) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
#define FOUR(P) (*(NAME(Four) *)(P))
#define PAIRS(X, Y) __builtin_shufflevector(X, Y, 0, 4, 1, 5)
#define LATER_PAIRS(X, Y) __builtin_shufflevector(X, Y, 2, 6, 3, 7)
#define HEADS(X, Y) __builtin_shufflevector(X, Y, 0, 1, 4, 5)
#define TAILS(X, Y) __builtin_shufflevector(X, Y, 2, 3, 6, 7)

static void NAME(turn_four)(const REAL *from, int64_t from_row, REAL *to, int64_t to_row) {
    NAME(Four) x[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) x[r] = FOUR(from + r * from_row);
    const NAME(Four) a = PAIRS(x[0], x[1]), b = LATER_PAIRS(x[0], x[1]);
    const NAME(Four) c = PAIRS(x[2], x[3]), d = LATER_PAIRS(x[2], x[3]);
    FOUR(to) = HEADS(a, c);
    FOUR(to + to_row) = TAILS(a, c);
    FOUR(to + 2 * to_row) = HEADS(b, d);
    FOUR(to + 3 * to_row) = TAILS(b, d);
}

typedef REAL NAME(Sixteen) __attribute__((vector_size(16 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
#define SIXTEEN(P) (*(NAME(Sixteen) *)(P))
#define JOIN4(X, Y) __builtin_shufflevector(X, Y, 0, 1, 2, 3, 4, 5, 6, 7)
#define JOIN8(X, Y) __builtin_shufflevector(X, Y, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
#define PAIRS16(X, Y) __builtin_shufflevector(X, Y, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define LATER_PAIRS16(X, Y) __builtin_shufflevector(X, Y, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define HEADS16(X, Y) __builtin_shufflevector(X, Y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define TAILS16(X, Y) __builtin_shufflevector(X, Y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)

/* Four columns of sixteen rows. */
static void NAME(turn_sixteen)(const REAL *from, int64_t from_row, REAL *to, int64_t to_row) {
    NAME(Sixteen) x[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++, from += from_row)
        x[r] = JOIN8(JOIN4(FOUR(from), FOUR(from + 4 * from_row)),
                     JOIN4(FOUR(from + 8 * from_row), FOUR(from + 12 * from_row)));
    const NAME(Sixteen) a = PAIRS16(x[0], x[1]), b = LATER_PAIRS16(x[0], x[1]);
    const NAME(Sixteen) c = PAIRS16(x[2], x[3]), d = LATER_PAIRS16(x[2], x[3]);
    SIXTEEN(to) = HEADS16(a, c);
    SIXTEEN(to + to_row) = TAILS16(a, c);
    SIXTEEN(to + 2 * to_row) = HEADS16(b, d);
    SIXTEEN(to + 3 * to_row) = TAILS16(b, d);
}
#endif

static void NAME(turn)(int64_t m, int64_t n, const REAL *from, int64_t from_row, REAL *to, int64_t to_row) {
    int64_t whole_m = 0, whole_n = 0;
#ifdef QUARTET
    whole_n = n / 4 * 4;
    for (int64_t rows; whole_m + 4 <= m; whole_m += rows) {
        const int wide = LANES == 16 && whole_m + 16 <= m;
        rows = wide ? 16 : 4;
        for (int64_t j = 0; j < whole_n; j += 4) {
            const REAL *block = from + whole_m * from_row + j;
            REAL *turned = to + j * to_row + whole_m;
            if (wide) NAME(turn_sixteen)(block, from_row, turned, to_row);
            else NAME(turn_four)(block, from_row, turned, to_row);
        }
    }
#endif
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = i < whole_m ? whole_n : 0; j < n; j++) to[j * to_row + i] = from[i * from_row + j];
}

static void NAME(transpose)(int64_t m, int64_t n, const REAL *from, REAL *to) { NAME(turn)(m, n, from, n, to, m); }

/* --- products */

/* What a product is: c = a b, or c = scale a b + share d, of shapes (m, inner) and (inner, n). */
typedef struct {
    int64_t m, n, inner;
    const REAL *a;
    int64_t a_row, turned; /* from one row of a to the next; turned: they are rows of a^T, (inner, m) */
    const REAL *b;
    REAL scale, share;
    const REAL *d; /* may be c; null: the product alone */
    REAL *c;
    int64_t c_row;     /* from one row of c to the next, and of d */
    int64_t symmetric; /* c is: what lies above its diagonal may be left out, and is taken from below */
} NAME(Product);

/* A tile's sums stay in registers: ROWS times two vectors, beside those of b and a number of a. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define ROWS 8
#else
#define ROWS 6
#endif

ALWAYS void NAME(tile)(const NAME(Product) *p, int64_t i, int64_t j, const int rows, const int vectors,
                       const int turned) {
    V sum[8][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[r][v] = (V){0};
    const REAL *a = p->a + (turned ? i : i * p->a_row), *b = p->b + j;
    const int64_t a_row = p->a_row, n = p->n, inner = p->inner;
    for (int64_t k = 0; k < inner; k++, b += n) {
        V right[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) right[v] = AT(b + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sum[r][v] += (turned ? a[r] : a[r * a_row + k]) * right[v];
        if (turned) a += a_row;
    }
    const int64_t c_row = p->c_row;
    REAL *c = p->c + i * c_row + j;
    if (!p->d) {
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++, c += c_row)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) AT(c + v * LANES) = sum[r][v];
        return;
    }
    const REAL *d = p->d + i * c_row + j, scale = p->scale, share = p->share;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++, c += c_row, d += c_row)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) AT(c + v * LANES) = scale * sum[r][v] + share * AT(d + v * LANES);
}

ALWAYS void NAME(tiles)(const NAME(Product) *p, int64_t i, int64_t rows, int64_t j, const int vectors,
                        const int turned) {
    if (rows == 8 && (ROWS == 8 || vectors == 1)) NAME(tile)(p, i, j, 8, vectors, turned);
    else if (ROWS == 6 && rows == 6) NAME(tile)(p, i, j, 6, vectors, turned);
    else if (rows == 4) NAME(tile)(p, i, j, 4, vectors, turned);
    else if (rows == 2) NAME(tile)(p, i, j, 2, vectors, turned);
    else NAME(tile)(p, i, j, 1, vectors, turned);
}

static int64_t NAME(choose_rows)(int64_t left, int symmetric) {
    if (left >= 8 && (ROWS == 8 || symmetric)) return 8;
    if (ROWS == 6 && (left > 8 || left == 6 || left == 7)) return 6;
    return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

static void NAME(multiply)(NAME(Product) p) {
    int64_t j = 0;
    while (j + LANES <= p.n) {
        const int two = !p.symmetric && j + 2 * LANES <= p.n; /* the narrower, the less is above the diagonal */
        const int64_t width = two ? 2 * LANES : LANES;
        int64_t skipped = 0;
        for (int64_t i = 0, rows; i < p.m; i += rows) {
            rows = NAME(choose_rows)(p.m - i, p.symmetric);
            if (p.symmetric && i + rows <= j) {
                skipped = i + rows;
                continue;
            }
            if (two && p.turned) NAME(tiles)(&p, i, rows, j, 2, 1);
            else if (two) NAME(tiles)(&p, i, rows, j, 2, 0);
            else if (p.turned) NAME(tiles)(&p, i, rows, j, 1, 1);
            else NAME(tiles)(&p, i, rows, j, 1, 0);
        }
        /* what lies below is there already */
        if (skipped) NAME(turn)(width, skipped, p.c + j * p.c_row, p.c_row, p.c + j, p.c_row);
        j += width;
    }
    for (; j < p.n; j++)
        for (int64_t i = 0; i < p.m; i++) {
            const REAL *a = p.a + (p.turned ? i : i * p.a_row);
            REAL sum = 0;
            for (int64_t k = 0; k < p.inner; k++) sum += a[p.turned ? k * p.a_row : k] * p.b[k * p.n + j];
            p.c[i * p.c_row + j] = p.d ? p.scale * sum + p.share * p.d[i * p.c_row + j] : sum;
        }
}
/* c = a b, and c = a^T b of an (inner, m). */
#define PRODUCT(M, N, INNER, A, B, C) NAME(multiply)((NAME(Product)){M, N, INNER, A, INNER, 0, B, 1, 0, 0, C, N, 0})
#define PRODUCT_TN(M, N, INNER, A, B, C) NAME(multiply)((NAME(Product)){M, N, INNER, A, M, 1, B, 1, 0, 0, C, N, 0})

/* As float64 has it, in an order that depends on the length alone. */
static double NAME(sum_squares)(int64_t n, const REAL *x) {
    double lanes[8] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int lane = 0; lane < 8; lane++) lanes[lane] += (double)x[i + lane] * (double)x[i + lane];
    for (; i < n; i++) sum += (double)x[i] * (double)x[i];
    for (int lane = 0; lane < 8; lane++) sum += lanes[lane];
    return sum;
}

/* --- QR */

/* Vectors of a row that a reflection works on at once. */
#if ROWS == 8
#define WIDEST 4
#else
#define WIDEST 2
#endif

typedef struct {
    int64_t head, n, row; /* the first row that the reflection changes, number of rows, from one to the next */
    int64_t forwards;
    const REAL *v, *next; /* columns of the reflection, and of the one after it */
    REAL factor, share;   /* w = factor (products + share x_head) */
    const REAL *ones;     /* behind as many zeros as a vector has lanes */
} NAME(Reflection);

#define REFLECT(AT_ROW, S)                                                                                             \
    {                                                                                                                  \
        V values[WIDEST];                                                                                              \
        _Pragma("GCC unroll 4") for (int i = 0; i < vectors; i++) {                                                    \
            values[i] = AT(x + AT_ROW + i * LANES) - v[AT_ROW] * w[i];                                                 \
            AT(x + AT_ROW + i * LANES) = values[i];                                                                    \
        }                                                                                                              \
        _Pragma("GCC unroll 4") for (int i = 0; i < vectors; i++) sums[S][i] += next[AT_ROW] * values[i];              \
    }

/* x <- x - v w^T in a few vectors of columns, where w follows from `products`, those of v with the rows behind the
   head. What comes out are the products of the next reflection, which is read after x was written. Forwards, the head's
   row is of no use any more, and `mask` is zero for columns that hold reflections; backwards, the next head is one row
   above. */
ALWAYS void NAME(reflect)(const NAME(Reflection) *r, const int vectors, const int forwards, const REAL *mask, REAL *x,
                          REAL *products) {
    V sums[2][WIDEST], w[WIDEST];
    const int64_t row = r->row, begin = r->head * row;
    const REAL *v = r->v + begin, *next = r->next + begin, *end = r->v + r->n * row;
    x += begin;
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++) {
        const V top = AT(x + i * LANES);
        w[i] = r->factor * (AT(products + i * LANES) + r->share * top);
        sums[0][i] = sums[1][i] = (V){0};
        if (forwards) w[i] *= AT(mask + i * LANES);
        else {
            AT(x + i * LANES) = top - v[0] * w[i];
            sums[0][i] = next[0] * AT(x + i * LANES);
        }
    }
    for (v += row, next += row, x += row; v + row < end; v += 2 * row, next += 2 * row, x += 2 * row) {
        REFLECT(0, 0)
        REFLECT(row, 1)
    }
    if (v < end) REFLECT(0, 0)
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++) AT(products + i * LANES) = sums[0][i] + sums[1][i];
}

/* In the columns from `from` on. */
static void NAME(reflect_columns)(const NAME(Reflection) *r, int64_t from, const REAL *mask, REAL *x, REAL *products) {
    for (int64_t width; from < r->row; from += width * LANES, mask = r->ones) {
        const int64_t left = (r->row - from) / LANES;
        width = left >= WIDEST ? WIDEST : left >= 2 ? 2 : 1;
        REAL *part = x + from, *sums = products + from;
        if (width == 1 && r->forwards) NAME(reflect)(r, 1, 1, mask, part, sums);
        else if (width == 1) NAME(reflect)(r, 1, 0, mask, part, sums);
        else if (width == 2 && r->forwards) NAME(reflect)(r, 2, 1, mask, part, sums);
        else if (width == 2) NAME(reflect)(r, 2, 0, mask, part, sums);
        else if (r->forwards) NAME(reflect)(r, WIDEST, 1, mask, part, sums);
        else NAME(reflect)(r, WIDEST, 0, mask, part, sums);
    }
}

/* Rows of a matrix with padding up to whole vectors. */
static int64_t NAME(pad)(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* Q of a QR decomposition by Householder's reflections; their columns stay in the lower part of x, those of the sum of
   a pivot and its column's norm. Rows are padded, with zeros. x is lost; memory: two rows and five vectors. */
static void NAME(orthogonalize)(int64_t n, REAL *x, REAL *q, REAL *memory) {
    const int64_t row = NAME(pad)(n);
    REAL *products = memory, *factors = products + row, *zeros = factors + row, *ones = zeros + LANES;
    for (int64_t i = 0; i < LANES; i++) zeros[i] = 0;
    for (int64_t i = 0; i < WIDEST * LANES; i++) ones[i] = 1;
    for (int64_t i = 0; i < row; i++) products[i] = 0;
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < row; i += LANES) AT(products + i) += x[k * row] * AT(x + k * row + i);
    for (int64_t j = 0; j < n; j++) {
        REAL *pivot = x + j * row + j;
        const REAL square = products[j], norm = NAME(root)(square), size = *pivot < 0 ? -*pivot : *pivot;
        const REAL added = *pivot < 0 ? -norm : norm;
        const REAL factor = 1 / (square + norm * size);
        factors[j] = factor < INFINITY ? factor : 0; /* of a column of zeros: it stays */
        if (j + 1 < n) {
            const NAME(Reflection) r = {j, n, row, 1, x + j, x + j + 1, factors[j], added, ones};
            const int64_t from = (j + 1) / LANES * LANES;
            NAME(reflect_columns)(&r, from, ones - 1 - j + from, x, products);
        }
        *pivot += added;
    }
    for (int64_t i = 0; i < n * row; i++) q[i] = 0;
    for (int64_t i = 0; i < n; i++) q[i * row + i] = 1;
    for (int64_t i = 0; i < row; i++) products[i] = 0;
    for (int64_t j = n - 1; j >= 0; j--) {
        const int64_t above = j ? j - 1 : 0; /* columns on its left are those of the identity in these rows, zero */
        const NAME(Reflection) r = {j, n, row, 0, x + j, x + above, factors[j], x[j * row + j], ones};
        NAME(reflect_columns)(&r, above / LANES * LANES, ones, q, products);
    }
}
