/* Radial networks at equal places of the scaled distance, as coefficients of splines (see nn/radial_table.py).

   A network is a multilayer perceptron without biases: h_(k+1) = activation(h_k W_k). Its last layer is linear, and so are
   coefficients in the values: the filter that makes coefficients takes h, which is narrower than the output. All numbers
   are double. */

#include "radial_layout.c"

/* Of a row of the basis. */
int64_t padded_width(int64_t width) { return row_width(width); }

/* Numbers of the memory of both passes, of all networks. */
int64_t radial_memory(const Radial *radial, int64_t is_back) {
    int64_t numbers = 0;
    const int64_t *widths = radial->widths;
    for (int64_t n = 0; n < radial->networks; widths += radial->matrices[n++] + 1)
        numbers += (is_back ? count_kept : count_memory)(radial, radial->matrices[n], widths);
    return numbers;
}

/* --- places in a network's memory */

static double *find_copy(const Network *network, int64_t k) { return network->memory + count_copies(network->widths, k); }

static double *find_hidden(const Radial *radial, const Network *network, int64_t k) {
    return find_copy(network, network->last + 1) + count_hidden(radial, network->widths, k - 1);
}

static double *find_filtered(const Radial *radial, const Network *network) {
    return find_hidden(radial, network, network->last + 1);
}

static double *find_table(const Radial *radial, const Network *network) {
    return find_filtered(radial, network) + radial->rows * row_width(network->widths[network->last]);
}

/* --- conversion */

typedef ELEMENT Kept __attribute__((vector_size(LANES * sizeof(ELEMENT)), aligned(sizeof(ELEMENT)), may_alias));

INLINE void keep(V x, ELEMENT *o) {
#if defined(__has_builtin)
#if __has_builtin(__builtin_convertvector)
#define CONVERTS
#endif
#endif
#ifdef CONVERTS
    *(Kept *)o = __builtin_convertvector(x, Kept);
#else
    for (int lane = 0; lane < LANES; lane++) o[lane] = (ELEMENT)x[lane];
#endif
}

/* --- passes */

static void prepare_matrix(const Network *network, int64_t k) {
    const int64_t inner = network->widths[k], columns = network->widths[k + 1];
    const int64_t out = row_width(columns), in = row_width(inner);
    double *const copy = find_copy(network, k);
    if (out != columns) memset(copy, 0, sizeof(double) * inner * out);
    for (int64_t i = 0; i < inner; i++)
        for (int64_t c = 0; c < columns; c++) copy[i * out + c] = network->factors[k] * (double)network->weights[k][i * columns + c];
    if (!network->kept) return;
    ELEMENT *const transpose = find_transpose(network, k);
    if (in != inner) memset(transpose, 0, sizeof(ELEMENT) * columns * in);
    for (int64_t i = 0; i < inner; i++)
        for (int64_t c = 0; c < columns; c++) transpose[c * in + i] = (ELEMENT)copy[i * out + c];
}

/* h = activation(h). */
static void activate(int64_t activation, int64_t n, double *h) {
    const double *const z = h;
    WITH_ACTIVATION(activation, AT(h + u) = f)
}

/* The same, and beside it this and its derivative for the pass back. */
static void activate_and_keep(int64_t activation, int64_t n, double *h, ELEMENT *values, ELEMENT *derivatives) {
    const double *const z = h;
    WITH_ACTIVATION(activation, AT(h + u) = f; keep(f, values + u); keep(d, derivatives + u))
}

/* Hidden layers at the places from first on. */
static void hidden_layers(const Radial *radial, const Network *network, int64_t first, int64_t count) {
    for (int64_t k = 0; k < network->last; k++) {
        const int64_t inner = network->widths[k], out = row_width(network->widths[k + 1]), in = row_width(inner);
        const double *const x = k ? find_hidden(radial, network, k) : radial->basis;
        double *const h = find_hidden(radial, network, k + 1) + first * out;
        product(count, inner, (int)out, x + first * in, in, 1, find_copy(network, k), out, h, out, 0);
        if (!network->kept) activate(network->activation, count * out, h);
        else
            activate_and_keep(network->activation, count * out, h,
                              find_kept_hidden(radial, network, k + 1, VALUES) + first * out,
                              find_kept_hidden(radial, network, k + 1, DERIVATIVES) + first * out);
    }
}

/* Rows of the table: coefficients of the last hidden layer, times the last matrix. */
static void table_rows(const Radial *radial, const Network *network, int64_t number, int64_t first, int64_t count) {
    const int64_t width = network->widths[network->last], padded = row_width(width);
    const int64_t columns = network->widths[network->last + 1], out = row_width(columns);
    const double *const h = network->last ? find_hidden(radial, network, network->last) : radial->basis;
    double *const filtered = find_filtered(radial, network), *const table = find_table(radial, network);
    for (int64_t r = first; r < first + count; r++) {
        const double *const middle = h + (r + REACH) * padded;
        double *const o = filtered + r * padded;
        EACH(u, padded) {
            V sum = radial->filter[0] * GET(middle + u);
            for (int64_t d = 1; d <= REACH; d++)
                sum += radial->filter[d] * (GET(middle + u - d * padded) + GET(middle + u + d * padded));
            AT(o + u) = sum;
            if (network->kept) keep(sum, find_kept_filtered(radial, network) + r * padded + u);
        }
    }
    product(count, width, (int)out, filtered + first * padded, padded, 1, find_copy(network, network->last), out,
            table + first * out, out, 0);
    for (int64_t r = first; r < first + count; r++)
        for (int64_t c = 0; c < columns; c++) radial->tables[number][r * columns + c] = (ELEMENT)table[r * out + c];
}

/* Tables from row first_row on, before last_row: no edge reads the others. */
void radial_tables(Radial *radial, int64_t first_row, int64_t last_row, int64_t threads) {
    radial->first_row = first_row;
    radial->last_row = last_row;
    _Pragma("omp parallel num_threads(threads)") {
        _Pragma("omp for schedule(dynamic, 1)") for (int64_t n = 0; n < radial->networks; n++) {
            const Network network = find_network(radial, n);
            for (int64_t k = 0; k <= network.last; k++) prepare_matrix(&network, k);
        }
        EACH_CHUNK(first_row, last_place(radial)) {
            CHUNK(first_row, last_place(radial))
            hidden_layers(radial, &network, first, count);
        }
        EACH_CHUNK(first_row, last_row) {
            CHUNK(first_row, last_row)
            table_rows(radial, &network, number, first, count);
        }
    }
}
