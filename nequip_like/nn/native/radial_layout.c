/* What both passes of the radial networks share: their structure, and where numbers lie.

   The forward pass (radial.c) is double: slopes are differences of neighbouring coefficients, which enlarge rounding. The
   pass back (radial_gradients.c) takes no such differences and has the network's ELEMENT, in which the forward pass leaves
   what it needs. Rows are padded to whole vectors of any type. */

#include "perceptron.c"

#define REACH 4       /* places on each side that a coefficient depends on */
#define CHUNK_ROWS 32 /* rows that one thread takes at a time */
#define ROW_NUMBERS 16 /* of a row: a multiple of the numbers of any register */

typedef struct Radial {
    int64_t networks, places, rows;
    int64_t first_row, last_row; /* the rows of the tables that edges read: first_row, and those before last_row */
    /* Of each network: its matrices and its activation; then for all networks one after the other the widths (one more
       than matrices), and of each matrix its factor and the addresses. */
    const int64_t *matrices, *activations, *widths;
    const double *factors;
    const ELEMENT *const *weights;
    ELEMENT *const *gradients; /* null where none is asked for */
    ELEMENT *const *tables;
    const ELEMENT *const *table_gradients;
    const double *filter; /* of the middle, and of both sides by distance */
    const double *basis;  /* inputs at the places, in padded rows */
    const ELEMENT *kept_basis;
    double *basis_gradient; /* null if it is not asked for */
    double *memory;         /* of the forward pass */
    ELEMENT *kept;          /* of the pass back; null in predictions */
} Radial;

/* One network: its part of everything. */
typedef struct {
    int64_t last, activation; /* number of the last matrix */
    const int64_t *widths;
    const double *factors;
    const ELEMENT *const *weights;
    ELEMENT *const *gradients;
    double *memory;
    ELEMENT *kept;
} Network;

static int64_t row_width(int64_t width) { return (width + ROW_NUMBERS - 1) / ROW_NUMBERS * ROW_NUMBERS; }

/* The places that the rows in use depend on are those from first_row on, before this one. */
static int64_t last_place(const Radial *radial) { return radial->last_row + 2 * REACH; }

/* Numbers of the layers 1 .. layers at all places. */
static int64_t count_hidden(const Radial *radial, const int64_t *widths, int64_t layers) {
    int64_t numbers = 0;
    for (int64_t k = 1; k <= layers; k++) numbers += radial->places * row_width(widths[k]);
    return numbers;
}

/* Of the forward pass: of each matrix a scaled copy; the hidden layers; the filtered values of the last one; the table. */
static int64_t count_copies(const int64_t *widths, int64_t matrices) {
    int64_t numbers = 0;
    for (int64_t k = 0; k < matrices; k++) numbers += widths[k] * row_width(widths[k + 1]);
    return numbers;
}

static int64_t count_memory(const Radial *radial, int64_t matrices, const int64_t *widths) {
    return count_copies(widths, matrices) + count_hidden(radial, widths, matrices - 1) +
           radial->rows * (row_width(widths[matrices - 1]) + row_width(widths[matrices]));
}

/* Of the pass back: of each matrix its scaled transpose, and sums for its gradient; values, derivatives and adjoints of
   the hidden layers; filtered values of the last one, and their adjoints; the gradient of the table; adjoints of the
   basis. */
static int64_t count_transposes(const int64_t *widths, int64_t matrices) {
    int64_t numbers = 0;
    for (int64_t k = 0; k < matrices; k++) numbers += widths[k + 1] * row_width(widths[k]);
    return numbers;
}

static int64_t count_kept(const Radial *radial, int64_t matrices, const int64_t *widths) {
    const int64_t last = matrices - 1;
    return count_transposes(widths, matrices) + count_copies(widths, matrices) + 3 * count_hidden(radial, widths, last) +
           radial->rows * (2 * row_width(widths[last]) + row_width(widths[matrices])) +
           radial->places * row_width(widths[0]);
}

static Network find_network(const Radial *radial, int64_t number) {
    Network found = {0, 0, radial->widths, radial->factors, radial->weights, radial->gradients, radial->memory, radial->kept};
    for (int64_t n = 0; n < number; n++) {
        const int64_t matrices = radial->matrices[n];
        found.memory += count_memory(radial, matrices, found.widths);
        if (found.kept) found.kept += count_kept(radial, matrices, found.widths);
        found.widths += matrices + 1;
        found.factors += matrices;
        found.weights += matrices;
        if (found.gradients) found.gradients += matrices;
    }
    found.last = radial->matrices[number] - 1;
    found.activation = radial->activations[number];
    return found;
}

static ELEMENT *find_transpose(const Network *network, int64_t k) {
    return network->kept + count_transposes(network->widths, k);
}

enum { VALUES, DERIVATIVES, ADJOINTS };

static ELEMENT *find_kept_hidden(const Radial *radial, const Network *network, int64_t k, int which) {
    const int64_t matrices = network->last + 1;
    return network->kept + count_transposes(network->widths, matrices) + count_copies(network->widths, matrices) +
           3 * count_hidden(radial, network->widths, k - 1) + which * radial->places * row_width(network->widths[k]);
}

static ELEMENT *find_kept_filtered(const Radial *radial, const Network *network) {
    return find_kept_hidden(radial, network, network->last + 1, 0);
}

/* Which rows of which network turn i of a loop over all of them is about. */
#define CHUNKS(NUMBER) (((NUMBER) + CHUNK_ROWS - 1) / CHUNK_ROWS)
#define EACH_CHUNK(START, STOP)                                                                                       \
    _Pragma("omp for schedule(dynamic, 1)")                                                                           \
    for (int64_t i = 0; i < radial->networks * CHUNKS((STOP) - (START)); i++)
#define CHUNK(START, STOP)                                                                                            \
    const int64_t number = i / CHUNKS((STOP) - (START));                                                              \
    const int64_t first = (START) + i % CHUNKS((STOP) - (START)) * CHUNK_ROWS;                                        \
    const int64_t count = (STOP) - first < CHUNK_ROWS ? (STOP) - first : CHUNK_ROWS;                                  \
    const Network network = find_network(radial, number);
