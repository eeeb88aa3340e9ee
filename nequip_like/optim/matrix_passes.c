/* Steps of SOAP and Muon for all matrices of a model, each in one call.

   This file is compiled once for each type of numbers. matrix_passes.py defines REAL, the type, and NAME, which gives a
   function the name of it.

   A parameter (rows, count, columns) is a stack of matrices: matrix k begins at k * columns, and its rows lie
   count * columns apart. What an optimizer keeps of it are stacks (count, ..., ...). Threads take one matrix after
   another; each has `size` numbers of `work` for itself. No matrix knows of another, so the number of threads changes no
   bit of a result. */

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

/* --- transposition: blocks of four by four go through registers */

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define QUARTET 4
#endif
#endif
typedef REAL NAME(Four) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

static void NAME(turn)(int64_t m, int64_t n, const REAL *from, int64_t from_row, REAL *to, int64_t to_row) {
    int64_t whole_m = 0, whole_n = 0;
#ifdef QUARTET
    whole_m = m / 4 * 4, whole_n = n / 4 * 4;
    for (int64_t j = 0; j < whole_n; j += 4)
        for (int64_t i = 0; i < whole_m; i += 4) {
            NAME(Four) x[4], y[4];
#pragma GCC unroll 4
            for (int r = 0; r < 4; r++) x[r] = *(const NAME(Four) *)(from + (i + r) * from_row + j);
            y[0] = __builtin_shufflevector(x[0], x[1], 0, 4, 1, 5);
            y[1] = __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7);
            y[2] = __builtin_shufflevector(x[2], x[3], 0, 4, 1, 5);
            y[3] = __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7);
            *(NAME(Four) *)(to + j * to_row + i) = __builtin_shufflevector(y[0], y[2], 0, 1, 4, 5);
            *(NAME(Four) *)(to + (j + 1) * to_row + i) = __builtin_shufflevector(y[0], y[2], 2, 3, 6, 7);
            *(NAME(Four) *)(to + (j + 2) * to_row + i) = __builtin_shufflevector(y[1], y[3], 0, 1, 4, 5);
            *(NAME(Four) *)(to + (j + 3) * to_row + i) = __builtin_shufflevector(y[1], y[3], 2, 3, 6, 7);
        }
#endif
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = i < whole_m ? whole_n : 0; j < n; j++) to[j * to_row + i] = from[i * from_row + j];
}

static void NAME(transpose)(int64_t m, int64_t n, const REAL *from, REAL *to) { NAME(turn)(m, n, from, n, to, m); }

/* --- products */

/* What a product is: c = scale a b + share d, of shapes (m, inner) and (inner, n); a has any strides, d may be c. */
typedef struct {
    int64_t m, n, inner;
    const REAL *a;
    int64_t a_row, a_column;
    const REAL *b;
    REAL scale, share;
    const REAL *d;
    REAL *c;
    int64_t symmetric; /* c is: what lies above its diagonal may be left out, and is taken from below */
} NAME(Product);

ALWAYS void NAME(tile)(const NAME(Product) *p, int64_t i, int64_t j, const int rows, const int vectors) {
    V sum[8][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[r][v] = (V){0};
    const REAL *a = p->a + i * p->a_row, *b = p->b + j;
    const int64_t a_row = p->a_row, a_column = p->a_column, n = p->n;
    for (int64_t k = 0; k < p->inner; k++, a += a_column, b += n) {
        V right[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) right[v] = AT(b + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sum[r][v] += a[r * a_row] * right[v];
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            const int64_t at = (i + r) * n + j + v * LANES;
            V value = p->scale * sum[r][v];
            if (p->d) value += p->share * AT(p->d + at);
            AT(p->c + at) = value;
        }
}

ALWAYS void NAME(tiles)(const NAME(Product) *p, int64_t i, int64_t rows, int64_t j, const int vectors) {
    if (rows == 8) NAME(tile)(p, i, j, 8, 1);
    else if (rows == 6) NAME(tile)(p, i, j, 6, vectors);
    else if (rows == 4) NAME(tile)(p, i, j, 4, vectors);
    else if (rows == 2) NAME(tile)(p, i, j, 2, vectors);
    else NAME(tile)(p, i, j, 1, vectors);
}

static void NAME(multiply)(NAME(Product) p) {
    int64_t j = 0;
    while (j + LANES <= p.n) {
        const int two = !p.symmetric && j + 2 * LANES <= p.n; /* the narrower, the less is above the diagonal */
        const int64_t width = two ? 2 * LANES : LANES;
        int64_t skipped = 0;
        for (int64_t i = 0, rows; i < p.m; i += rows) {
            const int64_t left = p.m - i;
            if (p.symmetric && left >= 8) rows = 8;
            else rows = left > 8 || left == 6 || left == 7 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
            if (p.symmetric && i + rows <= j) {
                skipped = i + rows;
                continue;
            }
            if (two) NAME(tiles)(&p, i, rows, j, 2);
            else NAME(tiles)(&p, i, rows, j, 1);
        }
        NAME(turn)(width, skipped, p.c + j * p.n, p.n, p.c + j, p.n); /* what lies below is there already */
        j += width;
    }
    for (; j < p.n; j++)
        for (int64_t i = 0; i < p.m; i++) {
            REAL sum = 0;
            for (int64_t k = 0; k < p.inner; k++) sum += p.a[i * p.a_row + k * p.a_column] * p.b[k * p.n + j];
            p.c[i * p.n + j] = p.scale * sum + (p.d ? p.share * p.d[i * p.n + j] : 0);
        }
}
/* c = a b, and c = a^T b of an (inner, m). */
#define PRODUCT(M, N, INNER, A, B, C) NAME(multiply)((NAME(Product)){M, N, INNER, A, INNER, 1, B, 1, 0, 0, C, 0})
#define PRODUCT_TN(M, N, INNER, A, B, C) NAME(multiply)((NAME(Product)){M, N, INNER, A, 1, M, B, 1, 0, 0, C, 0})

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

ALWAYS void NAME(reflect_rows)(const int rows, int64_t n, int64_t first, REAL factor, const REAL *v, REAL *x) {
    const int64_t begin = first / LANES * LANES, whole = n / LANES * LANES;
    V sum[4];
    REAL product[4];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) sum[r] = (V){0};
    for (int64_t i = begin; i < whole; i += LANES) {
        const V part = AT(v + i);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) sum[r] += part * AT(x + r * n + i);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        REAL half[BYTES / sizeof(REAL) / 2];
        for (int lane = 0; lane < LANES / 2; lane++) half[lane] = sum[r][lane] + sum[r][lane + LANES / 2];
        product[r] = half[0];
        for (int lane = 1; lane < LANES / 2; lane++) product[r] += half[lane];
        for (int64_t i = whole; i < n; i++) product[r] += v[i] * x[r * n + i];
        product[r] *= factor;
    }
    for (int64_t i = begin; i < whole; i += LANES) {
        const V part = AT(v + i);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) AT(x + r * n + i) -= product[r] * part;
    }
    for (int r = 0; r < rows; r++)
        for (int64_t i = whole; i < n; i++) x[r * n + i] -= product[r] * v[i];
}

/* Rows x (count, n) become x - factor (v . x) v; v is zero before `first`. */
static void NAME(reflect)(int64_t count, int64_t n, int64_t first, REAL factor, const REAL *v, REAL *x) {
    for (; count >= 4; count -= 4, x += 4 * n) NAME(reflect_rows)(4, n, first, factor, v, x);
    for (; count > 0; count--, x += n) NAME(reflect_rows)(1, n, first, factor, v, x);
}

/* Q of a QR decomposition by Householder's reflections; rows of x and q are columns of the matrices. x is lost. */
static void NAME(orthogonalize)(int64_t n, REAL *x, REAL *q, REAL *factors) {
    for (int64_t j = 0; j < n; j++) {
        REAL *v = x + j * n;
        double square = 0;
        for (int64_t i = j; i < n; i++) square += (double)v[i] * (double)v[i];
        const double norm = sqrt(square), head = v[j];
        for (int64_t i = 0; i < j; i++) v[i] = 0;
        factors[j] = 0;
        if (norm > 0) {
            const double pivot = head < 0 ? head - norm : head + norm;
            for (int64_t i = j + 1; i < n; i++) v[i] = (REAL)((double)v[i] / pivot);
            v[j] = 1;
            factors[j] = (REAL)((norm + fabs(head)) / norm);
        }
        NAME(reflect)(n - j - 1, n, j, factors[j], v, v + n);
    }
    for (int64_t i = 0; i < n * n; i++) q[i] = 0;
    for (int64_t j = n - 1; j >= 0; j--) {
        q[j * n + j] = 1;
        NAME(reflect)(n - j, n, j, factors[j], x + j * n, q + j * n);
    }
}

/* --- what both optimizers do with the matrices of parameters */

typedef struct {
    int64_t parameters;
    const int64_t *counts, *rows, *columns, *firsts; /* firsts: number of the first matrix among all of its group */
    REAL *const *weights;
    const REAL *const *gradients;
    double rate, decay; /* decay: by which share weights shrink */
} NAME(Matrices);

typedef struct {
    int64_t parameter, number, m, n; /* number: within the parameter */
    int64_t row;                     /* from one row of the weight to the next */
    REAL *weight;
    const REAL *gradient;
} NAME(Matrix);

static NAME(Matrix) NAME(find)(const NAME(Matrices) *all, int64_t i) {
    int64_t p = 0;
    while (i >= all->counts[p]) i -= all->counts[p++];
    const int64_t m = all->rows[p], n = all->columns[p];
    return (NAME(Matrix)){p, i, m, n, all->counts[p] * n, all->weights[p] + i * n, all->gradients[p] + i * n};
}

static void NAME(gather)(const NAME(Matrix) *x, REAL *restrict to) {
    const REAL *restrict from = x->gradient;
    const int64_t n = x->n;
    for (int64_t i = 0; i < x->m; i++, from += x->row, to += n)
        for (int64_t j = 0; j < n; j++) to[j] = from[j];
}

static void NAME(apply)(const NAME(Matrices) *all, const NAME(Matrix) *x, const REAL *restrict update, double scale) {
    const REAL left = (REAL)(1 - all->decay), rate = (REAL)(all->rate * scale);
    REAL *restrict weight = x->weight;
    const int64_t n = x->n;
    for (int64_t i = 0; i < x->m; i++, weight += x->row, update += n)
        for (int64_t j = 0; j < n; j++) weight[j] = left * weight[j] - rate * update[j];
}

/* For each matrix `x` what is given, with `memory` of the thread's own. */
#define EACH_MATRIX(...)                                                                                              \
    {                                                                                                                 \
        int64_t total = 0, next = 0;                                                                                  \
        for (int64_t p = 0; p < all->parameters; p++) total += all->counts[p];                                        \
        _Pragma("omp parallel for num_threads(threads) schedule(static, 1)")                                          \
        for (int64_t thread = 0; thread < threads; thread++) {                                                        \
            REAL *memory = work + thread * size;                                                                      \
            for (;;) {                                                                                                \
                int64_t i;                                                                                            \
                _Pragma("omp atomic capture") i = next++;                                                             \
                if (i >= total) break;                                                                                \
                const NAME(Matrix) x = NAME(find)(all, i);                                                            \
                __VA_ARGS__                                                                                           \
            }                                                                                                         \
        }                                                                                                             \
    }

static void NAME(average)(int64_t n, REAL share, const REAL *restrict values, REAL *restrict mean) {
    for (int64_t i = 0; i < n; i++) mean[i] += share * (values[i] - mean[i]);
}

/* --- Muon, see muon.py */

typedef struct {
    double momentum, nesterov, a, b, c, least_norm;
    int64_t steps;
} NAME(Muon);

/* The longer side is that of rows here: with x = X^T the iteration is x <- x (a + b A + c A^2), A = x^T x. */
static void NAME(muon)(const NAME(Muon) *o, const NAME(Matrices) *all, const NAME(Matrix) *at, double scale,
                       REAL *momentum, REAL *memory) {
    const int64_t m = at->m, n = at->n, wide = m < n, rows = wide ? n : m, k = wide ? m : n;
    REAL *x = memory, *y = x + m * n, *gram = y + m * n, *factor = gram + k * k;
    const REAL share = (REAL)(1 - o->momentum), part = (REAL)o->momentum;
    NAME(gather)(at, x);
    NAME(average)(m * n, share, x, momentum);
    for (int64_t i = 0; i < m * n; i++) y[i] = o->nesterov != 0 ? x[i] + part * (momentum[i] - x[i]) : momentum[i];
    const double square = NAME(sum_squares)(m * n, y);
    const REAL inverse = (REAL)(1 / fmax(sqrt(square), o->least_norm));
    for (int64_t i = 0; i < m * n; i++) y[i] *= inverse;
    if (wide) NAME(transpose)(m, n, y, x);
    REAL *from = wide ? x : y, *to = wide ? y : x;
    for (int64_t step = 0; step < o->steps; step++) {
        NAME(multiply)((NAME(Product)){k, k, rows, from, 1, k, from, 1, 0, 0, gram, 1});
        NAME(multiply)((NAME(Product)){k, k, k, gram, k, 1, gram, (REAL)o->c, (REAL)o->b, gram, factor, 1});
        NAME(multiply)((NAME(Product)){rows, k, k, from, k, 1, factor, 1, (REAL)o->a, from, to, 0});
        REAL *swapped = from;
        from = to;
        to = swapped;
    }
    if (wide) {
        NAME(transpose)(rows, k, from, to);
        from = to;
    }
    NAME(apply)(all, at, from, scale);
}

void NAME(step_muon)(const NAME(Muon) *o, const NAME(Matrices) *all, const double *scales, REAL *const *momenta,
                     REAL *work, int64_t size, int64_t threads) {
    EACH_MATRIX({
        const int64_t p = x.parameter;
        NAME(muon)(o, all, &x, scales[p], momenta[p] + x.number * x.m * x.n, memory);
    })
}

/* --- SOAP, see soap.py */

typedef struct {
    double b1, b2, epsilon;
    int64_t interval;
} NAME(Soap);

typedef struct {
    REAL *mean, *square;
    REAL *averages[2], *bases[2]; /* of rows, of columns; null: the basis is the identity */
} NAME(SoapState);

/* Puts the columns of a basis u (k, k) in order and renews it; `ordered` says where each came from. */
static void NAME(renew)(int64_t k, const REAL *average, REAL *u, int64_t *ordered, REAL *memory) {
    REAL *grown = memory, *x = grown + k * k, *factors = x + k * k, *estimates = factors + k;
    PRODUCT_TN(k, k, k, u, average, grown); /* row i is column i of (average u): averages are symmetric */
    for (int64_t i = 0; i < k; i++) {
        REAL sum = 0;
        for (int64_t j = 0; j < k; j++) sum += grown[i * k + j] * u[j * k + i];
        estimates[i] = sum;
        int64_t place = i; /* equal ones stay in their order */
        for (; place > 0 && estimates[ordered[place - 1]] < sum; place--) ordered[place] = ordered[place - 1];
        ordered[place] = i;
    }
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k; j++) x[i * k + j] = grown[ordered[i] * k + j];
    NAME(orthogonalize)(k, x, grown, factors);
    NAME(transpose)(k, k, grown, u);
}

static void NAME(renew_both)(int64_t m, int64_t n, NAME(SoapState) *s, int64_t *ordered, REAL *memory) {
    REAL *x = memory, *y = x + m * n;
    memory = y + m * n;
    for (int side = 0; side < 2; side++) {
        if (!s->bases[side]) continue;
        const int64_t k = side ? n : m;
        if (side) {
            NAME(transpose)(n, n, s->bases[1], memory);
            PRODUCT(m, n, n, s->mean, memory, x);
        } else PRODUCT(m, n, m, s->bases[0], s->mean, x);
        NAME(renew)(k, s->averages[side], s->bases[side], ordered, memory);
        if (side) PRODUCT(m, n, n, x, s->bases[1], s->mean);
        else PRODUCT_TN(m, n, m, s->bases[0], x, s->mean);
        for (int64_t i = 0; i < m * n; i++) y[i] = s->square[i];
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++)
                s->square[i * n + j] = side ? y[i * n + ordered[j]] : y[ordered[i] * n + j];
    }
}

static void NAME(soap)(const NAME(Soap) *o, const NAME(Matrices) *all, const NAME(Matrix) *at, double step,
                       NAME(SoapState) s, REAL *memory) {
    const int64_t m = at->m, n = at->n;
    REAL *g = memory, *x = g + m * n, *y = x + m * n, *turned = y + m * n, *rest = turned + m * n;
    NAME(gather)(at, g);
    const REAL *from = g;
    if (s.bases[0]) {
        PRODUCT_TN(m, n, m, s.bases[0], from, x);
        from = x;
    }
    if (s.bases[1]) {
        PRODUCT(m, n, n, from, s.bases[1], y);
        from = y;
    }
    const REAL left1 = (REAL)(1 - o->b1), b2 = (REAL)o->b2, left2 = (REAL)(1 - o->b2), epsilon = (REAL)o->epsilon;
    const REAL correction1 = (REAL)(1 / (1 - pow(o->b1, step))), correction2 = (REAL)(1 / (1 - pow(o->b2, step)));
    NAME(average)(m * n, left1, from, s.mean);
    REAL *restrict square = s.square;
    for (int64_t i = 0; i < m * n; i++) square[i] = b2 * square[i] + left2 * from[i] * from[i];
    const REAL *restrict mean = s.mean;
    for (int64_t i = 0; i < m * n; i++) y[i] = correction1 * mean[i] / (NAME(root)(square[i] * correction2) + epsilon);
    from = y;
    if (s.bases[0]) {
        PRODUCT(m, n, m, s.bases[0], from, x);
        from = x;
    }
    if (s.bases[1]) {
        REAL *out = from == x ? y : x;
        NAME(transpose)(n, n, s.bases[1], rest);
        PRODUCT(m, n, n, from, rest, out);
        from = out;
    }
    NAME(apply)(all, at, from, 1);
    if (s.averages[0]) {
        NAME(transpose)(m, n, g, turned);
        NAME(multiply)((NAME(Product)){m, m, n, g, n, 1, turned, left2, b2, s.averages[0], s.averages[0], 1});
    }
    if (s.averages[1])
        NAME(multiply)((NAME(Product)){n, n, m, g, 1, n, g, left2, b2, s.averages[1], s.averages[1], 1});
}

/* steps: number of the updates of each parameter, from 1, the present one among them: one less than its steps. */
void NAME(step_soap)(const NAME(Soap) *o, const NAME(Matrices) *all, const int64_t *steps, REAL *const *means,
                     REAL *const *squares, REAL *const *lefts, REAL *const *left_bases, REAL *const *rights,
                     REAL *const *right_bases, int64_t *orders, int64_t longest, REAL *work, int64_t size,
                     int64_t threads) {
    EACH_MATRIX({
        const int64_t p = x.parameter, m = x.m, n = x.n, k = x.number;
        NAME(SoapState) s = {means[p] + k * m * n, squares[p] + k * m * n, {0}, {0}};
        if (lefts[p]) s.averages[0] = lefts[p] + k * m * m, s.bases[0] = left_bases[p] + k * m * m;
        if (rights[p]) s.averages[1] = rights[p] + k * n * n, s.bases[1] = right_bases[p] + k * n * n;
        NAME(soap)(o, all, &x, (double)steps[p], s, memory);
        const int64_t step = steps[p] + 1;
        if (step > o->interval && (step + all->firsts[p] + k) % o->interval == 0)
            NAME(renew_both)(m, n, &s, orders + thread * longest, memory);
    })
}
#undef V
