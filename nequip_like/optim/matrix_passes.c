/* Steps of SOAP and Muon for all matrices of a model, each in one call.

   This file is compiled once for each type of numbers. compiled_passes.py defines REAL, the type, and NAME, which gives
   a function the name of it.

   A parameter (rows, count, columns) is a stack of matrices: matrix k begins at k * columns, and its rows lie
   count * columns apart. What an optimizer keeps of it are stacks (count, ..., ...). Threads take one matrix after
   another; each has `size` numbers of `work` for itself. No matrix knows of another, so the number of threads changes
   no bit of a result. */

#include "matrix_products.c"

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
        NAME(multiply)((NAME(Product)){k, k, rows, from, k, 1, from, 1, 0, 0, gram, k, 1});
        NAME(multiply)((NAME(Product)){k, k, k, gram, k, 0, gram, (REAL)o->c, (REAL)o->b, gram, factor, k, 1});
        NAME(multiply)((NAME(Product)){rows, k, k, from, k, 0, factor, 1, (REAL)o->a, from, to, k, 0});
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
    const int64_t row = NAME(pad)(k);
    REAL *grown = memory, *x = grown + k * row, *estimates = x + k * row, *lengths = estimates + k;
    PRODUCT(k, k, k, average, u, grown);
    for (int64_t i = 0; i < k; i++) estimates[i] = lengths[i] = 0;
    for (int64_t j = 0; j < k; j++)
        for (int64_t i = 0; i < k; i++) {
            const REAL value = grown[j * k + i], size = value < 0 ? -value : value;
            estimates[i] += value * u[j * k + i];
            lengths[i] = size > lengths[i] ? size : lengths[i];
        }
    for (int64_t i = 0; i < k; i++) {
        int64_t place = i; /* equal ones stay in their order */
        for (; place > 0 && estimates[ordered[place - 1]] < estimates[i]; place--) ordered[place] = ordered[place - 1];
        ordered[place] = i;
    }
    /* Lengths of columns change nothing of Q, and squares of small ones would be zero. */
    for (int64_t i = 0; i < k; i++) lengths[i] = 1 / lengths[i];
    for (int64_t i = 0; i < k; i++) lengths[i] = lengths[i] == INFINITY ? 0 : lengths[i];
    for (int64_t j = 0; j < k; j++) {
        for (int64_t i = 0; i < k; i++) x[j * row + i] = grown[j * k + ordered[i]] * lengths[ordered[i]];
        for (int64_t i = k; i < row; i++) x[j * row + i] = 0;
    }
    NAME(orthogonalize)(k, x, grown, x + k * row);
    for (int64_t j = 0; j < k; j++)
        for (int64_t i = 0; i < k; i++) u[j * k + i] = grown[j * row + i];
}

/* Puts rows, or columns, in order. */
static void NAME(permute)(int64_t m, int64_t n, int side, const int64_t *ordered, REAL *restrict x,
                          REAL *restrict memory) {
    for (int64_t i = 0; i < m * n; i++) memory[i] = x[i];
    for (int64_t i = 0; i < m; i++, x += n) {
        const REAL *restrict from = memory + (side ? i : ordered[i]) * n;
        if (side)
            for (int64_t j = 0; j < n; j++) x[j] = from[ordered[j]];
        else
            for (int64_t j = 0; j < n; j++) x[j] = from[j];
    }
}

static void NAME(renew_both)(int64_t m, int64_t n, NAME(SoapState) *s, int64_t *ordered, REAL *memory) {
    REAL *x = memory;
    memory = x + m * n;
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
        NAME(permute)(m, n, side, ordered, s->square, memory);
    }
}

/* Adam in the basis: gradients become the step. */
static void NAME(adapt)(const NAME(Soap) *o, double step, int64_t n, REAL *restrict mean, REAL *restrict square,
                        REAL *restrict x) {
    const REAL left1 = (REAL)(1 - o->b1), b2 = (REAL)o->b2, left2 = (REAL)(1 - o->b2), epsilon = (REAL)o->epsilon;
    const REAL correction1 = (REAL)(1 / (1 - pow(o->b1, step))), correction2 = (REAL)(1 / (1 - pow(o->b2, step)));
    for (int64_t i = 0; i < n; i++) {
        const REAL first = mean[i] + left1 * (x[i] - mean[i]), second = b2 * square[i] + left2 * x[i] * x[i];
        mean[i] = first;
        square[i] = second;
        x[i] = correction1 * first / (NAME(root)(second * correction2) + epsilon);
    }
}

static void NAME(soap)(const NAME(Soap) *o, const NAME(Matrices) *all, const NAME(Matrix) *at, double step,
                       NAME(SoapState) s, REAL *memory) {
    const int64_t m = at->m, n = at->n;
    const REAL b2 = (REAL)o->b2, left2 = (REAL)(1 - o->b2);
    REAL *g = memory, *half = g + m * n, *x = half + m * n, *turned = x + m * n;
    NAME(gather)(at, g);
    if (s.averages[0]) {
        NAME(transpose)(m, n, g, turned);
        NAME(multiply)((NAME(Product)){m, m, n, g, n, 0, turned, left2, b2, s.averages[0], s.averages[0], m, 1});
    }
    if (s.averages[1])
        NAME(multiply)((NAME(Product)){n, n, m, g, n, 1, g, left2, b2, s.averages[1], s.averages[1], n, 1});

    if (s.bases[0]) PRODUCT_TN(m, n, m, s.bases[0], g, s.bases[1] ? half : x);
    if (s.bases[1]) PRODUCT(m, n, n, s.bases[0] ? half : g, s.bases[1], x);
    if (!s.bases[0] && !s.bases[1]) x = g;
    NAME(adapt)(o, step, m * n, s.mean, s.square, x);

    /* The last product goes into the weights. */
    const REAL left = (REAL)(1 - all->decay), rate = (REAL)-all->rate;
    REAL *w = at->weight;
    if (s.bases[1]) {
        if (s.bases[0]) PRODUCT(m, n, m, s.bases[0], x, half);
        NAME(transpose)(n, n, s.bases[1], turned);
        NAME(multiply)((NAME(Product)){m, n, n, s.bases[0] ? half : x, n, 0, turned, rate, left, w, w, at->row, 0});
    } else if (s.bases[0])
        NAME(multiply)((NAME(Product)){m, n, m, s.bases[0], m, 0, x, rate, left, w, w, at->row, 0});
    else NAME(apply)(all, at, x, 1);
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
