/* Passes over all weights of a model, each in one call: the norm of their gradients, a step of Adam, an average.

   This file is compiled once for each type of numbers. weight_passes.py defines REAL, the type, NAME, which gives a
   function the name of it, and PIECE.

   What belongs to a weight lies in several arrays (weights, gradients, averages) of equal sizes. They are cut into pieces
   of PIECE numbers, and each thread takes a range of pieces. Where the cuts are depends on the sizes alone, and a sum is
   that of the sums of pieces in their order: the number of threads changes no bit of a result. */

/* Of a thread: for fewer a thread costs more than it gains. To wake one that sleeps takes up to a tenth of a millisecond,
   in which Adam alone does some fifty pieces. */
#define LEAST_PIECES 128

typedef struct {
    int64_t array, first, size; /* an array, and a range in it */
} NAME(Piece);

static int64_t NAME(count_pieces)(int64_t arrays, const int64_t *sizes) {
    int64_t pieces = 0;
    for (int64_t i = 0; i < arrays; i++) pieces += (sizes[i] + PIECE - 1) / PIECE;
    return pieces;
}

/* The piece after one; that before the first one has the array 0 and neither a first number nor a size. */
static NAME(Piece) NAME(go_on)(NAME(Piece) piece, const int64_t *sizes) {
    piece.first += piece.size;
    while (piece.first >= sizes[piece.array]) {
        piece.array++;
        piece.first = 0;
    }
    const int64_t left = sizes[piece.array] - piece.first;
    piece.size = left < PIECE ? left : PIECE;
    return piece;
}

static int64_t NAME(choose_threads)(int64_t pieces, int64_t threads) {
    const int64_t useful = 1 + pieces / LEAST_PIECES;
    return threads < useful ? threads : useful;
}

/* For each piece what is given, with `piece` and its number `i`. */
#define EACH_PIECE(...)                                                                                               \
    {                                                                                                                 \
        const int64_t pieces = NAME(count_pieces)(arrays, sizes);                                                     \
        const int64_t used = NAME(choose_threads)(pieces, threads);                                                   \
        _Pragma("omp parallel for num_threads(used) schedule(static, 1)")                                             \
        for (int64_t thread = 0; thread < used; thread++) {                                                           \
            const int64_t begin = pieces * thread / used, end = pieces * (thread + 1) / used;                         \
            NAME(Piece) piece = {0, 0, 0};                                                                            \
            for (int64_t i = 0; i < end; i++) {                                                                       \
                piece = NAME(go_on)(piece, sizes);                                                                    \
                if (i >= begin) __VA_ARGS__                                                                           \
            }                                                                                                         \
        }                                                                                                             \
    }

#define LANES 8
static double NAME(sum_squares)(int64_t n, const REAL *restrict x) {
    double lanes[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++) lanes[lane] += (double)x[i + lane] * (double)x[i + lane];
    for (; i < n; i++) lanes[i % LANES] += (double)x[i] * (double)x[i];
    for (int lane = 0; lane < LANES; lane++) sum += lanes[lane];
    return sum;
}

/* The Euclidean norm of all numbers together; `sums` has room for one number of each piece. */
double NAME(measure_norm)(int64_t arrays, const int64_t *sizes, const REAL *const *x, double *sums, int64_t threads) {
    EACH_PIECE({ sums[i] = NAME(sum_squares)(piece.size, x[piece.array] + piece.first); })
    double sum = 0;
    for (int64_t i = 0; i < NAME(count_pieces)(arrays, sizes); i++) sum += sums[i];
    return sqrt(sum);
}

static void NAME(move)(int64_t n, REAL share, REAL *restrict average, const REAL *restrict weight) {
    /* Of two ways to write it, the one without cancellation at its end: a share of 1 gives the weight itself. */
    if (share < (REAL)0.5)
        for (int64_t i = 0; i < n; i++) average[i] += share * (weight[i] - average[i]);
    else
        for (int64_t i = 0; i < n; i++) average[i] = weight[i] - (weight[i] - average[i]) * (1 - share);
}

/* Moves averages by a share of the way towards weights. */
void NAME(move_averages)(int64_t arrays, const int64_t *sizes, REAL *const *averages, const REAL *const *weights,
                         double share, int64_t threads) {
    EACH_PIECE({
        NAME(move)(piece.size, (REAL)share, averages[piece.array] + piece.first, weights[piece.array] + piece.first);
    })
}

/* Adam, Kingma and Ba 2015, algorithm 1; with `decoupled` AdamW, Loshchilov and Hutter 2019, algorithm 2. */
typedef struct {
    double rate, beta1, beta2, epsilon, decay;
    int64_t decoupled;
} NAME(Adam);

static void NAME(step)(int64_t n, const NAME(Adam) *adam, double steps, REAL *restrict weight,
                       const REAL *restrict gradient, REAL *restrict first, REAL *restrict second) {
    const REAL size = (REAL)(adam->rate / (1 - pow(adam->beta1, steps)));
    const REAL correction = (REAL)(1 / sqrt(1 - pow(adam->beta2, steps)));
    const REAL left1 = (REAL)(1 - adam->beta1), beta2 = (REAL)adam->beta2, left2 = (REAL)(1 - adam->beta2);
    const REAL epsilon = (REAL)adam->epsilon;
    const REAL shrink = adam->decoupled ? (REAL)(adam->rate * adam->decay) : 0;
    const REAL added = adam->decoupled ? 0 : (REAL)adam->decay;
    for (int64_t i = 0; i < n; i++) {
        const REAL w = weight[i] - shrink * weight[i], g = gradient[i] + added * w;
        first[i] += left1 * (g - first[i]);
        second[i] = beta2 * second[i] + left2 * g * g;
        weight[i] = w - size * first[i] / (NAME(root)(second[i]) * correction + epsilon);
    }
}

/* One step of Adam, which is counted in the number of `steps` of each array. */
void NAME(step_adam)(int64_t arrays, const int64_t *sizes, const NAME(Adam) *adam, float *const *steps,
                     REAL *const *weights, const REAL *const *gradients, REAL *const *firsts, REAL *const *seconds,
                     int64_t threads) {
    for (int64_t k = 0; k < arrays; k++) *steps[k] += 1;
    EACH_PIECE({
        const int64_t k = piece.array, at = piece.first;
        NAME(step)(piece.size, adam, *steps[k], weights[k] + at, gradients[k] + at, firsts[k] + at, seconds[k] + at);
    })
}
