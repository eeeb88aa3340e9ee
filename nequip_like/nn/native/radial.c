/* Radial networks at equal places of the scaled distance, as coefficients of splines (see nn/radial_table.py).

   A network is a multilayer perceptron without biases: h_(k+1) = activation(h_k W_k). Its last layer is linear, and so are
   coefficients in the values: the filter that makes coefficients takes h, which is narrower than the output. All numbers
   are double: slopes are differences of neighbouring coefficients, which enlarge rounding. Weights, tables and their
   gradients have the network's ELEMENT. Rows are padded, see perceptron.c. */

#include "perceptron.c"

#define REACH 4       /* places on each side that a coefficient depends on */
#define CHUNK_ROWS 32 /* rows that one thread takes at a time */

typedef struct Radial {
    int64_t networks, places, rows, first_row;
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
    double *basis_gradient; /* null if it is not asked for */
    double *memory;
} Radial;

/* Of a row of the basis. */
int64_t padded_width(int64_t width) { return pad(width); }

/* One network: its part of everything. */
typedef struct {
    int64_t last, activation; /* number of the last matrix */
    const int64_t *widths;
    const double *factors;
    const ELEMENT *const *weights;
    ELEMENT *const *gradients;
    double *memory;
} Network;

static int64_t matrix_numbers(const int64_t *widths) { return widths[0] * pad(widths[1]); }

/* Of each matrix a scaled copy, its transpose and sums for its gradient; of each hidden layer values, derivatives and
   adjoints at all places; of the last one the filtered values and their adjoints; the table; the basis' gradient. */
static int64_t network_numbers(const Radial *radial, int64_t matrices, const int64_t *widths) {
    int64_t numbers = 0;
    for (int64_t k = 0; k < matrices; k++) numbers += 2 * matrix_numbers(widths + k) + widths[k + 1] * pad(widths[k]);
    for (int64_t k = 1; k < matrices; k++) numbers += 3 * radial->places * pad(widths[k]);
    return numbers + radial->rows * (2 * pad(widths[matrices - 1]) + pad(widths[matrices])) + radial->places * pad(widths[0]);
}

int64_t radial_memory(const Radial *radial) {
    int64_t numbers = 0;
    const int64_t *widths = radial->widths;
    for (int64_t n = 0; n < radial->networks; widths += radial->matrices[n++] + 1)
        numbers += network_numbers(radial, radial->matrices[n], widths);
    return numbers;
}

static Network find_network(const Radial *radial, int64_t number) {
    Network found = {0, 0, radial->widths, radial->factors, radial->weights, radial->gradients, radial->memory};
    for (int64_t n = 0; n < number; n++) {
        const int64_t matrices = radial->matrices[n];
        found.memory += network_numbers(radial, matrices, found.widths);
        found.widths += matrices + 1;
        found.factors += matrices;
        found.weights += matrices;
        if (found.gradients) found.gradients += matrices;
    }
    found.last = radial->matrices[number] - 1;
    found.activation = radial->activations[number];
    return found;
}

/* --- places in a network's memory */

static double *find_copy(const Network *network, int64_t k) {
    double *place = network->memory;
    for (int64_t i = 0; i < k; i++)
        place += 2 * matrix_numbers(network->widths + i) + network->widths[i + 1] * pad(network->widths[i]);
    return place;
}

static double *find_transpose(const Network *network, int64_t k) {
    return find_copy(network, k) + matrix_numbers(network->widths + k);
}

static double *find_sums(const Network *network, int64_t k) {
    return find_transpose(network, k) + network->widths[k + 1] * pad(network->widths[k]);
}

enum { VALUES, DERIVATIVES, ADJOINTS };

static double *find_hidden(const Radial *radial, const Network *network, int64_t k, int which) {
    double *place = find_copy(network, network->last + 1);
    for (int64_t i = 1; i < k; i++) place += 3 * radial->places * pad(network->widths[i]);
    return place + which * radial->places * pad(network->widths[k]);
}

static double *find_filtered(const Radial *radial, const Network *network) {
    return find_hidden(radial, network, network->last + 1, 0);
}

static double *find_filtered_adjoints(const Radial *radial, const Network *network) {
    return find_filtered(radial, network) + radial->rows * pad(network->widths[network->last]);
}

static double *find_table(const Radial *radial, const Network *network) {
    return find_filtered_adjoints(radial, network) + radial->rows * pad(network->widths[network->last]);
}

static double *find_basis_adjoints(const Radial *radial, const Network *network) {
    return find_table(radial, network) + radial->rows * pad(network->widths[network->last + 1]);
}

/* --- forward */

static void prepare_matrix(const Network *network, int64_t k) {
    const int64_t inner = network->widths[k], columns = network->widths[k + 1];
    double *const copy = find_copy(network, k), *const transpose = find_transpose(network, k);
    if (pad(inner) != inner || pad(columns) != columns)
        memset(copy, 0, sizeof(double) * (matrix_numbers(network->widths + k) + columns * pad(inner)));
    for (int64_t i = 0; i < inner; i++)
        for (int64_t c = 0; c < columns; c++)
            copy[i * pad(columns) + c] = transpose[c * pad(inner) + i] =
                network->factors[k] * (double)network->weights[k][i * columns + c];
}

/* h = activation(h), and its derivative beside it. */
static void activate(int64_t activation, int64_t n, double *h, double *derivative) {
    const double *const z = h;
    WITH_ACTIVATION(activation, AT(h + u) = f; AT(derivative + u) = d)
}

static void multiply_by(int64_t n, const double *x, double *o) { EACH(u, n) AT(o + u) *= GET(x + u); }

/* Hidden layers at the places from first on. */
static void hidden_layers(const Radial *radial, const Network *network, int64_t first, int64_t count) {
    for (int64_t k = 0; k < network->last; k++) {
        const int64_t inner = network->widths[k], out = pad(network->widths[k + 1]), in = pad(inner);
        const double *const x = k ? find_hidden(radial, network, k, VALUES) : radial->basis;
        double *const h = find_hidden(radial, network, k + 1, VALUES) + first * out;
        product(count, inner, (int)out, x + first * in, in, 1, find_copy(network, k), out, h, out, 0);
        activate(network->activation, count * out, h, find_hidden(radial, network, k + 1, DERIVATIVES) + first * out);
    }
}

/* Rows of the table: coefficients of the last hidden layer, times the last matrix. */
static void table_rows(const Radial *radial, const Network *network, int64_t number, int64_t first, int64_t count) {
    const int64_t width = network->widths[network->last], padded = pad(width), columns = network->widths[network->last + 1];
    const int64_t out = pad(columns);
    const double *const h = network->last ? find_hidden(radial, network, network->last, VALUES) : radial->basis;
    double *const filtered = find_filtered(radial, network), *const table = find_table(radial, network);
    for (int64_t r = first; r < first + count; r++) {
        const double *const middle = h + (r + REACH) * padded;
        double *const o = filtered + r * padded;
        EACH(u, padded) {
            V sum = radial->filter[0] * GET(middle + u);
            for (int64_t d = 1; d <= REACH; d++)
                sum += radial->filter[d] * (GET(middle + u - d * padded) + GET(middle + u + d * padded));
            AT(o + u) = sum;
        }
    }
    product(count, width, (int)out, filtered + first * padded, padded, 1, find_copy(network, network->last), out,
            table + first * out, out, 0);
    for (int64_t r = first; r < first + count; r++)
        for (int64_t c = 0; c < columns; c++) radial->tables[number][r * columns + c] = (ELEMENT)table[r * out + c];
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

/* Tables from row first_row on: no edge reads the ones before. */
void radial_tables(Radial *radial, int64_t first_row, int64_t threads) {
    radial->first_row = first_row;
    _Pragma("omp parallel num_threads(threads)") {
        _Pragma("omp for schedule(dynamic, 1)") for (int64_t n = 0; n < radial->networks; n++) {
            const Network network = find_network(radial, n);
            for (int64_t k = 0; k <= network.last; k++) prepare_matrix(&network, k);
        }
        EACH_CHUNK(first_row, radial->places) {
            CHUNK(first_row, radial->places)
            hidden_layers(radial, &network, first, count);
        }
        EACH_CHUNK(first_row, radial->rows) {
            CHUNK(first_row, radial->rows)
            table_rows(radial, &network, number, first, count);
        }
    }
}

/* --- backward */

/* Adjoints of the filtered values from the gradient of the table, which is read once. */
static void table_rows_adjoint(const Radial *radial, const Network *network, int64_t number, int64_t first, int64_t count) {
    const int64_t in = pad(network->widths[network->last]), columns = network->widths[network->last + 1], out = pad(columns);
    double *const table = find_table(radial, network);
    for (int64_t r = first; r < first + count; r++) {
        for (int64_t c = 0; c < columns; c++) table[r * out + c] = (double)radial->table_gradients[number][r * columns + c];
        for (int64_t c = columns; c < out; c++) table[r * out + c] = 0;
    }
    product(count, columns, (int)in, table + first * out, out, 1, find_transpose(network, network->last), in,
            find_filtered_adjoints(radial, network) + first * in, in, 0);
}

/* Adjoint of the last hidden layer at a place: the filter is symmetric. */
static void filter_adjoint(const Radial *radial, const Network *network, int64_t place, double *o) {
    const int64_t in = pad(network->widths[network->last]);
    const double *const adjoints = find_filtered_adjoints(radial, network);
    memset(o, 0, sizeof(double) * in);
    for (int64_t i = -REACH; i <= REACH; i++) {
        const int64_t row = place - REACH + i;
        if (row < radial->first_row || row >= radial->rows) continue;
        const double factor = radial->filter[i < 0 ? -i : i];
        EACH(u, in) AT(o + u) += factor * GET(adjoints + row * in + u);
    }
}

static void hidden_layers_adjoint(const Radial *radial, const Network *network, int64_t first, int64_t count) {
    const int64_t last = network->last;
    double *adjoints = last ? find_hidden(radial, network, last, ADJOINTS) : find_basis_adjoints(radial, network);
    for (int64_t p = first; p < first + count; p++) filter_adjoint(radial, network, p, adjoints + p * pad(network->widths[last]));
    for (int64_t k = last; k > 0; k--) {
        const int64_t in = pad(network->widths[k - 1]), out = pad(network->widths[k]);
        double *const here = find_hidden(radial, network, k, ADJOINTS) + first * out;
        multiply_by(count * out, find_hidden(radial, network, k, DERIVATIVES) + first * out, here);
        if (k == 1 && !radial->basis_gradient) return;
        double *const before = k > 1 ? find_hidden(radial, network, k - 1, ADJOINTS) : find_basis_adjoints(radial, network);
        product(count, network->widths[k], (int)in, here, out, 1, find_transpose(network, k - 1), in, before + first * in, in, 0);
    }
}

/* Rows first .. first + OUTER_ROWS of the gradient of matrix k: sums over all places in order, whoever computes them. */
static void matrix_gradient(const Radial *radial, const Network *network, int64_t k, int64_t first) {
    const int64_t inner = network->widths[k], columns = network->widths[k + 1], out = pad(columns);
    const int64_t here = inner - first < OUTER_ROWS ? inner - first : OUTER_ROWS, start = radial->first_row;
    const int64_t in = pad(inner);
    double *const sums = find_sums(network, k) + first * out;
    const double *x, *y;
    int64_t stop = radial->places;
    if (k == network->last) {
        x = find_filtered(radial, network);
        y = find_table(radial, network);
        stop = radial->rows;
    } else {
        x = k ? find_hidden(radial, network, k, VALUES) : radial->basis;
        y = find_hidden(radial, network, k + 1, ADJOINTS);
    }
    product(here, stop - start, (int)out, x + start * in + first, 1, in, y + start * out, out, sums, out, 0);
    for (int64_t i = 0; i < here; i++)
        for (int64_t c = 0; c < columns; c++)
            network->gradients[k][(first + i) * columns + c] = (ELEMENT)(network->factors[k] * sums[i * out + c]);
}

/* Gradients of the weights, and of the basis if it is asked for, from those of the tables. */
void radial_gradients(Radial *radial, int64_t threads) {
    const int64_t start = radial->first_row;
    _Pragma("omp parallel num_threads(threads)") {
        EACH_CHUNK(start, radial->rows) {
            CHUNK(start, radial->rows)
            table_rows_adjoint(radial, &network, number, first, count);
        }
        EACH_CHUNK(start, radial->places) {
            CHUNK(start, radial->places)
            hidden_layers_adjoint(radial, &network, first, count);
        }
        for (int64_t n = 0; n < radial->networks; n++) {
            const Network network = find_network(radial, n);
            for (int64_t k = 0; k <= network.last; k++) {
                if (!network.gradients[k]) continue;
                _Pragma("omp for schedule(dynamic, 1) nowait")
                for (int64_t r = 0; r < network.widths[k]; r += OUTER_ROWS) matrix_gradient(radial, &network, k, r);
            }
        }
        if (radial->basis_gradient) {
            const int64_t inputs = radial->widths[0];
            _Pragma("omp for schedule(static)") for (int64_t p = 0; p < radial->places; p++) {
                double *const o = radial->basis_gradient + p * inputs;
                memset(o, 0, sizeof(double) * inputs);
                for (int64_t n = 0; p >= start && n < radial->networks; n++) {
                    const Network network = find_network(radial, n);
                    const double *const adjoints = find_basis_adjoints(radial, &network) + p * pad(inputs);
                    for (int64_t u = 0; u < inputs; u++) o[u] += adjoints[u];
                }
            }
        }
    }
}
