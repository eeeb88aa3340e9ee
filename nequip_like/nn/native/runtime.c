/* Pieces of the compiled network that are the same for every model.

   The generated code before this defines REAL (the element type), WIDEST (the most channels that a vector may hold: a
   power of two that divides all numbers of channels), KNOTS (intervals of the radial table), L_MAX, TYPES and BLOCK. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define REGISTER_BYTES 64
#define TILE_ROWS 8
#elif defined(__AVX__)
#define REGISTER_BYTES 32
#define TILE_ROWS 6
#elif defined(__aarch64__) /* NEON has 32 registers, as AVX-512 */
#define REGISTER_BYTES 16
#define TILE_ROWS 8
#else
#define REGISTER_BYTES 16
#define TILE_ROWS 4
#endif
#define REGISTER_LANES (REGISTER_BYTES / (int)sizeof(REAL))
#define LANES (WIDEST < REGISTER_LANES ? WIDEST : REGISTER_LANES)

/* A vector of channels. In memory it may lie anywhere: the second type is the first without its alignment. */
typedef REAL V __attribute__((vector_size(LANES * sizeof(REAL))));
typedef V VectorInMemory __attribute__((aligned(sizeof(REAL)), may_alias));
#define AT(pointer) (*(VectorInMemory *)(pointer))
#define GET(pointer) ((V)(*(const VectorInMemory *)(pointer)))
#define EACH(u, n) for (int u = 0; u < (n); u += LANES)
#define ALIGNED __attribute__((aligned(64)))
#define UNUSED __attribute__((unused)) /* for what only some networks need */
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

#define HARMONICS ((L_MAX + 1) * (L_MAX + 1))
#define TAPS 6

INLINE REAL sum_lanes(V v) {
    REAL sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += v[lane];
    return sum;
}

/* --- the structure that all functions share; nequip_like.nn.native.program fills in the same fields */

typedef struct {
    int64_t atoms, edges, blocks, chunks, threads, keep;
    /* Topology. Atoms are numbered by species, edges by receiving atom, and once more by sending atom (sent: the first
       number of an edge by the second). A block is a range of atoms of one species. */
    const int32_t *row, *original, *neighbour, *sent_row, *sent, *sent_centre, *atom_order;
    const int32_t *block_start, *block_stop, *block_type, *chunk_block, *type_start;
    const double *inverse_cutoff, *norm;
    /* Edges */
    const double *vectors, *directions;
    double *gradient;
    /* The sent ones are copies by sending atom, so that no pass jumps through memory; gradients are by sending atom. */
    int32_t *interval, *sent_interval;
    REAL *basis, *harmonics, *harmonics_tangent, *length_tangent;
    REAL *sent_basis, *sent_harmonics, *sent_harmonics_tangent, *sent_length_tangent;
    REAL *harmonics_gradient, *length_gradient;
    /* Parameters, their gradients, what was made of the parameters, and the atoms' features */
    const REAL *const *parameters;
    REAL *const *gradients;
    REAL *prepared, *features, *scratch;
    /* Where the features of a layer begin, in features: see FEATURES in the generated code,
       and index_features in layout.py. */
    const int64_t *feature_offsets;
    /* For second derivatives only (hessian.c), by sending atom */
    REAL *sent_curvature, *harmonics_gradient_tangent, *length_gradient_tangent;
} Net;

/* Threads for a loop that does little at each edge. To wake a thread that sleeps takes up to a tenth of a millisecond, in
   which one thread alone does some thousand edges. */
#define LEAST_EDGES 4096
#define EDGE_THREADS(net) ((net)->edges < LEAST_EDGES ? 1 : (net)->threads)

/* --- matrix products: O = X W (+ O), X by rows and columns of any stride, W and O with contiguous rows */

#define DEFINE_TILE(NAME, ROWS, COLUMNS)                                                                              \
    INLINE void NAME(int64_t inner, const REAL *x, int64_t row_stride, int64_t inner_stride, const REAL *w,          \
                     int64_t ldw, REAL *o, int64_t ldo, int add) {                                                    \
        V sums[ROWS][COLUMNS];                                                                                        \
        UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int c = 0; c < COLUMNS; c++)                                \
            sums[r][c] = add ? GET(o + r * ldo + c * LANES) : (V){0};                                                 \
        for (int64_t k = 0; k < inner; k++) {                                                                         \
            V wide[COLUMNS];                                                                                          \
            UNROLL for (int c = 0; c < COLUMNS; c++) wide[c] = GET(w + k * ldw + c * LANES);                          \
            UNROLL for (int r = 0; r < ROWS; r++) {                                                                   \
                const REAL value = x[r * row_stride + k * inner_stride];                                              \
                UNROLL for (int c = 0; c < COLUMNS; c++) sums[r][c] += value * wide[c];                               \
            }                                                                                                         \
        }                                                                                                             \
        UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int c = 0; c < COLUMNS; c++)                                \
            AT(o + r * ldo + c * LANES) = sums[r][c];                                                                 \
    }
DEFINE_TILE(tile_many_2, TILE_ROWS, 2)
DEFINE_TILE(tile_many_1, TILE_ROWS, 1)
DEFINE_TILE(tile_4_2, 4, 2)
DEFINE_TILE(tile_4_1, 4, 1)
DEFINE_TILE(tile_2_2, 2, 2)
DEFINE_TILE(tile_2_1, 2, 1)
DEFINE_TILE(tile_1_2, 1, 2)
DEFINE_TILE(tile_1_1, 1, 1)

static void product(int64_t rows, int64_t inner, int columns, const REAL *x, int64_t row_stride, int64_t inner_stride,
                    const REAL *w, int64_t ldw, REAL *o, int64_t ldo, int add) {
#define TILES(SUFFIX)                                                                                                 \
    {                                                                                                                 \
        int64_t r = 0;                                                                                                \
        for (; r + TILE_ROWS <= rows; r += TILE_ROWS)                                                                 \
            tile_many_##SUFFIX(inner, x + r * row_stride, row_stride, inner_stride, w + c, ldw, o + r * ldo + c, ldo, add); \
        for (; r + 4 <= rows; r += 4)                                                                                 \
            tile_4_##SUFFIX(inner, x + r * row_stride, row_stride, inner_stride, w + c, ldw, o + r * ldo + c, ldo, add); \
        for (; r + 2 <= rows; r += 2)                                                                                 \
            tile_2_##SUFFIX(inner, x + r * row_stride, row_stride, inner_stride, w + c, ldw, o + r * ldo + c, ldo, add); \
        for (; r < rows; r++)                                                                                         \
            tile_1_##SUFFIX(inner, x + r * row_stride, row_stride, inner_stride, w + c, ldw, o + r * ldo + c, ldo, add); \
    }
    int c = 0;
    for (; c + 2 * LANES <= columns; c += 2 * LANES) TILES(2)
    for (; c < columns; c += LANES) TILES(1)
}

/* O = X W, or O += X W; all rows contiguous. */
static void multiply(int64_t rows, int inner, int columns, const REAL *x, const REAL *w, REAL *o, int add) {
    product(rows, inner, columns, x, inner, 1, w, columns, o, columns, add);
}

/* Rows first .. first + OUTER_ROWS of O = X^T Y, or O += X^T Y, for X (rows, width) and Y (rows, columns). */
#define OUTER_ROWS (TILE_ROWS == 6 ? 12 : 8) /* whole tiles: with 8 rows the last 2 of each would take as long as 6 */
static void outer(int64_t first, int64_t rows, int width, int columns, const REAL *x, const REAL *y, REAL *o, int add) {
    const int64_t here = width - first < OUTER_ROWS ? width - first : OUTER_ROWS;
    product(here, rows, columns, x + first, 1, width, y, columns, o + first * columns, columns, add);
}

static void scale_by(int64_t n, REAL factor, REAL *x) {
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

static void add_to(int64_t n, const REAL *x, REAL *o) {
    for (int64_t i = 0; i < n; i++) o[i] += x[i];
}

/* --- parameters made ready: scaled, and transposed for the adjoint */

static void prepare_linear(int inner, int columns, double factor, const REAL *w, REAL *o, REAL *transposed) {
    for (int i = 0; i < inner; i++)
        for (int c = 0; c < columns; c++)
            o[i * columns + c] = transposed[c * inner + i] = (REAL)factor * w[i * columns + c];
}

/* For each species t the matrix sum_a embedding[t][a] w[i][a][c], and its transpose. */
static void prepare_per_type(int inner, int width, int columns, double factor, const REAL *embedding, const REAL *w,
                             REAL *o, REAL *transposed) {
    for (int i = 0; i < inner; i++)
        product(TYPES, width, columns, embedding, width, 1, w + (int64_t)i * width * columns, columns, o + (int64_t)i * columns,
                (int64_t)inner * columns, 0);
    for (int64_t t = 0; t < TYPES; t++)
        prepare_linear(inner, columns, factor, o + t * inner * columns, o + t * inner * columns, transposed + t * inner * columns);
}

/* Gradients of w and of the embedding, given those of the species' matrices (already scaled). */
static void per_type_gradient(int i, int inner, int width, int columns, const REAL *embedding, const REAL *w,
                              const REAL *g, REAL *w_gradient, REAL *embedding_gradient) {
    const REAL *wi = w + (int64_t)i * width * columns;
    REAL *gi = w_gradient + (int64_t)i * width * columns;
    memset(gi, 0, sizeof(REAL) * width * columns);
    for (int t = 0; t < TYPES; t++) {
        const REAL *type_gradient = g + ((int64_t)t * inner + i) * columns;
        for (int a = 0; a < width; a++) {
            const REAL e = embedding[t * width + a];
            V sum = {0};
            EACH(c, columns) {
                AT(gi + a * columns + c) += e * GET(type_gradient + c);
                sum += GET(type_gradient + c) * GET(wi + a * columns + c);
            }
            embedding_gradient[t * width + a] += sum_lanes(sum);
        }
    }
}

/* --- activations: value, first and second derivative, all times a constant */

#if defined(REAL_IS_DOUBLE)
typedef int64_t Bits __attribute__((vector_size(LANES * sizeof(REAL))));
#define MANTISSA_BITS 52
#define MAGIC 6755399441055744.0
#define LOWEST -708.0
#define LN2_HIGH 6.93147180369123816490e-01
#define LN2_LOW 1.90821492927058770002e-10
#else
typedef int32_t Bits __attribute__((vector_size(LANES * sizeof(REAL))));
#define MANTISSA_BITS 23
#define MAGIC 12582912.0f
#define LOWEST -87.0f
#define LN2_HIGH 0.693145751953125f
#define LN2_LOW 1.42860677e-6f
#endif

INLINE V choose(Bits which, V yes, V no) { return (V)(((Bits)yes & which) | ((Bits)no & ~which)); }

/* exp(-|x|) for |x| up to 87 (708 in double), where it stays: by exp(r) 2^n with |r| <= ln(2) / 2. */
INLINE V exp_of_minus(V x) {
    x = choose((Bits)(x < 0), x, -x);
    x = choose((Bits)(x < (REAL)LOWEST), (V){0} + (REAL)LOWEST, x);
    const V shifted = x * (REAL)1.44269504088896340736 + (REAL)MAGIC;
    const V n = shifted - (REAL)MAGIC;
    const V r = (x - n * (REAL)LN2_HIGH) - n * (REAL)LN2_LOW;
#if defined(REAL_IS_DOUBLE)
    V sum = (V){0} + 1.0 / 6227020800.0;
    sum = sum * r + 1.0 / 479001600.0;
    sum = sum * r + 1.0 / 39916800.0;
    sum = sum * r + 1.0 / 3628800.0;
    sum = sum * r + 1.0 / 362880.0;
    sum = sum * r + 1.0 / 40320.0;
    sum = sum * r + 1.0 / 5040.0;
#else
    V sum = (V){0} + 1.0f / 5040.0f;
#endif
    sum = sum * r + (REAL)(1.0 / 720.0);
    sum = sum * r + (REAL)(1.0 / 120.0);
    sum = sum * r + (REAL)(1.0 / 24.0);
    sum = sum * r + (REAL)(1.0 / 6.0);
    sum = sum * r + (REAL)0.5;
    sum = sum * r + (REAL)1.0;
    sum = sum * r + (REAL)1.0;
    const Bits power = (Bits)shifted << MANTISSA_BITS;
    return (V)((Bits)sum + power);
}

INLINE V logistic(V x) {
    const V t = exp_of_minus(x);
    return choose((Bits)(x < 0), t, (V){0} + (REAL)1.0) / ((REAL)1.0 + t);
}

INLINE void silu(V x, V *f, V *d, V *dd) {
    const V s = logistic(x), ds = s * ((REAL)1.0 - s);
    *f = x * s;
    *d = s + x * ds;
    *dd = ds * ((REAL)2.0 + x * ((REAL)1.0 - (REAL)2.0 * s));
}

/* Without an own form: lane by lane with the mathematics library, in double. */
#define BY_LANES(NAME, ...)                                                                                           \
    INLINE void NAME(V x, V *f, V *d, V *dd) {                                                                        \
        for (int lane = 0; lane < LANES; lane++) {                                                                    \
            const double y = x[lane];                                                                                 \
            double value, first, second;                                                                              \
            __VA_ARGS__;                                                                                                   \
            (*f)[lane] = (REAL)value;                                                                                 \
            (*d)[lane] = (REAL)first;                                                                                 \
            (*dd)[lane] = (REAL)second;                                                                               \
        }                                                                                                             \
    }
#define LOGISTIC_OF(y) (1.0 / (1.0 + exp(-(y))))
#define SOFTPLUS_OF(y) ((y) > 0 ? (y) + log1p(exp(-(y))) : log1p(exp(y)))
BY_LANES(tanh_, value = tanh(y); first = 1 - value * value; second = -2 * value * first)
BY_LANES(ssp, value = SOFTPLUS_OF(y) - M_LN2; first = LOGISTIC_OF(y); second = first * (1 - first))
BY_LANES(abs_, value = fabs(y); first = (y > 0) - (y < 0); second = 0)
BY_LANES(gelu, const double p = 0.5 * erfc(-y * M_SQRT1_2), q = exp(-0.5 * y * y) * 0.5 * M_SQRT1_2 * M_2_SQRTPI;
         value = y * p; first = p + y * q; second = q * (2 - y * y))
BY_LANES(mish, const double t = tanh(SOFTPLUS_OF(y)), s = LOGISTIC_OF(y), dt = (1 - t * t) * s;
         value = y * t; first = t + y * dt;
         second = 2 * dt + y * ((1 - t * t) * s * (1 - s) - 2 * t * dt * s))

/* The gate: scalars pass through an activation, other features are multiplied by gates. For n atoms; h is the input
   with ldh channels, y the output with width channels; a trailing t is a tangent, b an adjoint, b2 an adjoint of the
   second pass. Gates lie at hg with ldg channels for each atom. */
#define DEFINE_GATE(NAME)                                                                                             \
    static void NAME##_forward(int64_t n, int width, REAL c, const REAL *h, int ldh, REAL *y) {                      \
        for (int64_t a = 0; a < n; a++) EACH(u, width) {                                                              \
            V f, d, dd;                                                                                               \
            NAME(GET(h + a * ldh + u), &f, &d, &dd);                                                                  \
            AT(y + a * width + u) = c * f;                                                                            \
        }                                                                                                             \
    }                                                                                                                 \
    static void NAME##_linear(int64_t n, int width, REAL c, const REAL *h, int ldh, const REAL *x, int ldx, REAL *o,  \
                              int ldo) {                                                                              \
        for (int64_t a = 0; a < n; a++) EACH(u, width) {                                                              \
            V f, d, dd;                                                                                               \
            NAME(GET(h + a * ldh + u), &f, &d, &dd);                                                                  \
            AT(o + a * ldo + u) = c * d * GET(x + a * ldx + u);                                                       \
        }                                                                                                             \
    }                                                                                                                 \
    static void NAME##_dual(int64_t n, int width, REAL c, const REAL *h, const REAL *ht, const REAL *yb,              \
                            const REAL *yb2, int ldh, REAL *hb2) {                                                    \
        for (int64_t a = 0; a < n; a++) EACH(u, width) {                                                              \
            V f, d, dd;                                                                                               \
            NAME(GET(h + a * ldh + u), &f, &d, &dd);                                                                  \
            AT(hb2 + a * ldh + u) = c * (d * GET(yb2 + a * width + u) +                                               \
                                         dd * GET(ht + a * ldh + u) * GET(yb + a * width + u));                       \
        }                                                                                                             \
    }                                                                                                                 \
    static void NAME##_gate_forward(int64_t n, int dim, int width, REAL c, const REAL *hg, int ldg, const REAL *h,    \
                                    REAL *y) {                                                                        \
        for (int64_t a = 0; a < n; a++) EACH(u, width) {                                                              \
            V f, d, dd;                                                                                               \
            NAME(GET(hg + a * ldg + u), &f, &d, &dd);                                                                 \
            for (int64_t at = a * dim * width + u; at < (a + 1) * dim * width; at += width)                           \
                AT(y + at) = c * f * GET(h + at);                                                                     \
        }                                                                                                             \
    }                                                                                                                 \
    static void NAME##_gate_tangent(int64_t n, int dim, int width, REAL c, const REAL *hg, const REAL *hgt, int ldg,  \
                                    const REAL *h, const REAL *ht, REAL *yt) {                                        \
        for (int64_t a = 0; a < n; a++) EACH(u, width) {                                                              \
            V f, d, dd;                                                                                               \
            NAME(GET(hg + a * ldg + u), &f, &d, &dd);                                                                 \
            const V turned = d * GET(hgt + a * ldg + u);                                                              \
            for (int64_t at = a * dim * width + u; at < (a + 1) * dim * width; at += width)                           \
                AT(yt + at) = c * (f * GET(ht + at) + turned * GET(h + at));                                          \
        }                                                                                                             \
    }                                                                                                                 \
    static void NAME##_gate_reverse(int64_t n, int dim, int width, REAL c, const REAL *hg, int ldg, const REAL *h,    \
                                    const REAL *yb, REAL *hgb, REAL *hb) {                                            \
        for (int64_t a = 0; a < n; a++) EACH(u, width) {                                                              \
            V f, d, dd, sum = {0};                                                                                    \
            NAME(GET(hg + a * ldg + u), &f, &d, &dd);                                                                 \
            for (int64_t at = a * dim * width + u; at < (a + 1) * dim * width; at += width) {                         \
                AT(hb + at) = c * f * GET(yb + at);                                                                   \
                sum += GET(h + at) * GET(yb + at);                                                                    \
            }                                                                                                         \
            AT(hgb + a * ldg + u) = c * d * sum;                                                                      \
        }                                                                                                             \
    }                                                                                                                 \
    static void NAME##_gate_dual(int64_t n, int dim, int width, REAL c, const REAL *hg, const REAL *hgt, int ldg,     \
                                 const REAL *h, const REAL *ht, const REAL *yb, const REAL *yb2, REAL *hgb2,          \
                                 REAL *hb2) {                                                                         \
        for (int64_t a = 0; a < n; a++) EACH(u, width) {                                                              \
            V f, d, dd, first = {0}, second = {0};                                                                    \
            NAME(GET(hg + a * ldg + u), &f, &d, &dd);                                                                 \
            const V turned = GET(hgt + a * ldg + u);                                                                  \
            for (int64_t at = a * dim * width + u; at < (a + 1) * dim * width; at += width) {                         \
                AT(hb2 + at) = c * (f * GET(yb2 + at) + d * turned * GET(yb + at));                                   \
                first += GET(h + at) * GET(yb2 + at) + GET(ht + at) * GET(yb + at);                                   \
                second += GET(h + at) * GET(yb + at);                                                                 \
            }                                                                                                         \
            AT(hgb2 + a * ldg + u) = c * (d * first + dd * turned * second);                                          \
        }                                                                                                             \
    }

/* --- edges: radial table (splines of fifth degree on equal intervals) and spherical harmonics */

/* Weights of all paths at an edge, and their derivative with the distance. */
INLINE void weights_at(const REAL *b, int64_t interval, const REAL *table, int width, REAL *w) {
    const REAL *rows = table + interval * width;
    EACH(u, width) {
        V sum = b[0] * GET(rows + u);
        UNROLL for (int t = 1; t < TAPS; t++) sum += b[t] * GET(rows + t * width + u);
        AT(w + u) = sum;
    }
}

INLINE void weights_and_slopes_at(const REAL *b, int64_t interval, const REAL *table, int width, REAL *w, REAL *slope) {
    const REAL *rows = table + interval * width;
    EACH(u, width) {
        V sum = b[0] * GET(rows + u), change = b[TAPS] * GET(rows + u);
        UNROLL for (int t = 1; t < TAPS; t++) {
            sum += b[t] * GET(rows + t * width + u);
            change += b[TAPS + t] * GET(rows + t * width + u);
        }
        AT(w + u) = sum;
        AT(slope + u) = change;
    }
}

/* The table's gradient, given those of the weights and of their tangents. */
INLINE void table_gradient_at(const REAL *b, int64_t interval, REAL along, const REAL *wb, const REAL *wtb, int width,
                              REAL *gradient) {
    REAL *rows = gradient + interval * width;
    EACH(u, width) {
        const V one = GET(wb + u), two = along * GET(wtb + u);
        UNROLL for (int t = 0; t < TAPS; t++) AT(rows + t * width + u) += b[t] * one + b[TAPS + t] * two;
    }
}

#ifndef ONLY_CONVOLUTION
/* Six splines at t in [0, 1] of an interval, and their derivatives. */
static void splines(double t, double *b, double *d) {
    const double t2 = t * t, t3 = t2 * t, t4 = t2 * t2, t5 = t4 * t, s = 1 - t, s2 = s * s, s4 = s2 * s2;
    b[0] = s4 * s / 120;
    b[1] = (26 - 50 * t + 20 * t2 + 20 * t3 - 20 * t4 + 5 * t5) / 120;
    b[2] = (66 - 60 * t2 + 30 * t4 - 10 * t5) / 120;
    b[3] = (26 + 50 * t + 20 * t2 - 20 * t3 - 20 * t4 + 10 * t5) / 120;
    b[4] = (1 + 5 * t + 10 * t2 + 10 * t3 + 5 * t4 - 5 * t5) / 120;
    b[5] = t5 / 120;
    d[0] = -s4 / 24;
    d[1] = (-50 + 40 * t + 60 * t2 - 80 * t3 + 25 * t4) / 120;
    d[2] = (-120 * t + 120 * t3 - 50 * t4) / 120;
    d[3] = (50 + 40 * t - 60 * t2 - 80 * t3 + 50 * t4) / 120;
    d[4] = (5 + 20 * t + 30 * t2 + 20 * t3 - 25 * t4) / 120;
    d[5] = t4 / 24;
}

static void evaluate_harmonics(const double *unit, double *y);
static void harmonics_along(const double *y, const double *unit_tangent, double *yt);
static void harmonics_adjoint(const double *y, double *yb, double *unit_adjoint);

static double unit_vector(const double *vector, double *unit) {
    const double length = sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2]);
    for (int i = 0; i < 3; i++) unit[i] = vector[i] / length;
    return length;
}

static void edge_forward(const Net *net, int64_t e, int64_t centre_type) {
    int neighbour_type = 0;
    while (net->neighbour[e] >= net->type_start[neighbour_type + 1]) neighbour_type++;
    double unit[3], y[HARMONICS], b[TAPS], d[TAPS];
    const double length = unit_vector(net->vectors + 3 * net->original[e], unit);
    const double inverse = net->inverse_cutoff[centre_type * TYPES + neighbour_type], x = length * inverse;
    /* Not (x >= 1): a vector that is not finite has to be seen in the result. */
    if (x >= 1) {
        net->interval[e] = -1;
        return;
    }
    const double place = x * KNOTS;
    const int interval = place < KNOTS ? (int)place : 0;
    net->interval[e] = interval;
    splines(place - interval, b, d);
    REAL *basis = net->basis + e * 2 * TAPS;
    for (int t = 0; t < TAPS; t++) {
        basis[t] = (REAL)b[t];
        basis[TAPS + t] = (REAL)(d[t] * KNOTS * inverse);
    }
    evaluate_harmonics(unit, y);
    for (int j = 0; j < HARMONICS; j++) net->harmonics[e * HARMONICS + j] = (REAL)y[j];
}

static void edge_tangent(const Net *net, int64_t e) {
    if (net->interval[e] < 0) return;
    double unit[3], turn[3], y[HARMONICS], yt[HARMONICS];
    const double length = unit_vector(net->vectors + 3 * net->original[e], unit), *v = net->directions + 3 * net->original[e];
    const double along = unit[0] * v[0] + unit[1] * v[1] + unit[2] * v[2];
    for (int i = 0; i < 3; i++) turn[i] = (v[i] - along * unit[i]) / length;
    evaluate_harmonics(unit, y);
    harmonics_along(y, turn, yt);
    net->length_tangent[e] = (REAL)along;
    for (int j = 0; j < HARMONICS; j++) net->harmonics_tangent[e * HARMONICS + j] = (REAL)yt[j];
}

/* Copies by sending atom: of what the values need, and of the tangents; i is the number by sending atom. */
static void edge_sent(const Net *net, int64_t i) {
    const int64_t e = net->sent[i];
    net->sent_interval[i] = net->interval[e];
    net->length_gradient[i] = 0;
    memset(net->harmonics_gradient + i * HARMONICS, 0, sizeof(REAL) * HARMONICS);
    memcpy(net->sent_basis + i * 2 * TAPS, net->basis + e * 2 * TAPS, sizeof(REAL) * 2 * TAPS);
    memcpy(net->sent_harmonics + i * HARMONICS, net->harmonics + e * HARMONICS, sizeof(REAL) * HARMONICS);
}

static void edge_sent_tangent(const Net *net, int64_t i) {
    const int64_t e = net->sent[i];
    net->sent_length_tangent[i] = net->length_tangent[e];
    memcpy(net->sent_harmonics_tangent + i * HARMONICS, net->harmonics_tangent + e * HARMONICS, sizeof(REAL) * HARMONICS);
}

static void edge_reverse(const Net *net, int64_t i) {
    const int64_t e = net->sent[i];
    double *gradient = net->gradient + 3 * net->original[e];
    if (net->interval[e] < 0) {
        gradient[0] = gradient[1] = gradient[2] = 0;
        return;
    }
    double unit[3], y[HARMONICS], yb[HARMONICS], turn[3];
    const double length = unit_vector(net->vectors + 3 * net->original[e], unit);
    evaluate_harmonics(unit, y);
    for (int j = 0; j < HARMONICS; j++) yb[j] = net->harmonics_gradient[i * HARMONICS + j];
    harmonics_adjoint(y, yb, turn);
    const double along = unit[0] * turn[0] + unit[1] * turn[1] + unit[2] * turn[2];
    for (int x = 0; x < 3; x++)
        gradient[x] = (turn[x] - along * unit[x]) / length + net->length_gradient[i] * unit[x];
}

/* For each atom the sum of an edge quantity g over the edges that it receives minus that over those that it sends, and
   the sum of vector (x) g over those that it receives; atoms and edges in the caller's order. */
void edge_sums(const Net *net, const double *g, double *differences, double *products) {
    _Pragma("omp parallel for schedule(static) num_threads(EDGE_THREADS(net))") for (int64_t a = 0; a < net->atoms; a++) {
        double sum[3] = {0}, product[9] = {0};
        for (int64_t e = net->row[a]; e < net->row[a + 1]; e++) {
            const double *here = g + 3 * net->original[e], *vector = net->vectors + 3 * net->original[e];
            for (int x = 0; x < 3; x++) {
                sum[x] += here[x];
                for (int y = 0; y < 3; y++) product[3 * x + y] += vector[x] * here[y];
            }
        }
        for (int64_t i = net->sent_row[a]; i < net->sent_row[a + 1]; i++)
            for (int x = 0; x < 3; x++) sum[x] -= g[3 * net->original[net->sent[i]] + x];
        memcpy(differences + 3 * net->atom_order[a], sum, sizeof sum);
        memcpy(products + 9 * net->atom_order[a], product, sizeof product);
    }
}

/* --- topology: atoms by species, edges by receiving and by sending atom; counting sorts, so the order is stable */

int is_parallel(void) {
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

static void counts_to_starts(int64_t n, int32_t *counts) {
    int32_t sum = 0;
    for (int64_t i = 0; i <= n; i++) {
        const int32_t here = counts[i];
        counts[i] = sum;
        sum += here;
    }
}

/* Fills the arrays; row, sent_row and type_start have one entry more than there are atoms or species. Returns the
   number of blocks, or -1 if an index is out of range. */
int64_t topology(int64_t atoms, int64_t edges, const int64_t *types, const int64_t *centre, const int64_t *neighbour,
                 int32_t *atom_order, int32_t *new_of_old, int32_t *type_start, int32_t *row, int32_t *original,
                 int32_t *new_neighbour, int32_t *sent_row, int32_t *sent, int32_t *sent_centre, int32_t *block_start,
                 int32_t *block_stop, int32_t *block_type, int64_t chunks, int32_t *chunk_block) {
    memset(type_start, 0, sizeof(int32_t) * (TYPES + 1));
    for (int64_t a = 0; a < atoms; a++) {
        if (types[a] < 0 || types[a] >= TYPES) return -1;
        type_start[types[a]]++;
    }
    counts_to_starts(TYPES, type_start);
    int32_t next[TYPES];
    memcpy(next, type_start, sizeof next);
    for (int64_t a = 0; a < atoms; a++) {
        new_of_old[a] = next[types[a]]++;
        atom_order[new_of_old[a]] = (int32_t)a;
    }
    memset(row, 0, sizeof(int32_t) * (atoms + 1));
    memset(sent_row, 0, sizeof(int32_t) * (atoms + 1));
    for (int64_t e = 0; e < edges; e++) {
        if (centre[e] < 0 || centre[e] >= atoms || neighbour[e] < 0 || neighbour[e] >= atoms) return -1;
        row[new_of_old[centre[e]]]++;
        sent_row[new_of_old[neighbour[e]]]++;
    }
    counts_to_starts(atoms, row);
    counts_to_starts(atoms, sent_row);
    for (int64_t e = 0; e < edges; e++) {
        const int32_t a = new_of_old[centre[e]], at = row[a]++;
        original[at] = (int32_t)e;
        new_neighbour[at] = new_of_old[neighbour[e]];
    }
    /* Filling has moved each start to the next one's place. */
    memmove(row + 1, row, sizeof(int32_t) * atoms);
    row[0] = 0;
    for (int32_t a = 0; a < atoms; a++)
        for (int32_t e = row[a]; e < row[a + 1]; e++) {
            const int32_t at = sent_row[new_neighbour[e]]++;
            sent[at] = e;
            sent_centre[at] = a;
        }
    memmove(sent_row + 1, sent_row, sizeof(int32_t) * atoms);
    sent_row[0] = 0;
    /* Chunks: ranges of atoms that send about the same number of edges; one begins with the first atom whose middle edge
       is in its share. Blocks: at most BLOCK atoms of one species and one chunk. */
    int64_t blocks = 0, chunk = 0;
    for (int t = 0; t < TYPES; t++)
        for (int32_t a = type_start[t]; a < type_start[t + 1]; a++) {
            int begins = a == type_start[t] || a - block_start[blocks - 1] == BLOCK;
            while (chunk < chunks && ((int64_t)sent_row[a] + sent_row[a + 1]) * chunks >= 2 * edges * chunk) {
                chunk_block[chunk++] = (int32_t)blocks;
                begins = 1;
            }
            if (!begins) continue;
            if (blocks > 0) block_stop[blocks - 1] = a;
            block_start[blocks] = a;
            block_type[blocks++] = t;
        }
    if (blocks > 0) block_stop[blocks - 1] = (int32_t)atoms;
    while (chunk <= chunks) chunk_block[chunk++] = (int32_t)blocks;
    return blocks;
}
#endif
