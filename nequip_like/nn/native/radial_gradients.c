/* The pass back through the radial networks: gradients of their weights from those of the tables, after radial_tables. */

#include "radial_layout.c"

/* --- places in what is kept; the forward pass needs the others, too */

static REAL *find_sums(const Network *network, int64_t k) {
    return find_transpose(network, network->last + 1) + count_copies(network->widths, k);
}

static REAL *find_filtered_adjoints(const Radial *radial, const Network *network) {
    return find_kept_filtered(radial, network) + radial->rows * row_width(network->widths[network->last]);
}

static REAL *find_table(const Radial *radial, const Network *network) {
    return find_filtered_adjoints(radial, network) + radial->rows * row_width(network->widths[network->last]);
}

static REAL *find_basis_adjoints(const Radial *radial, const Network *network) {
    return find_table(radial, network) + radial->rows * row_width(network->widths[network->last + 1]);
}

/* --- passes */

static void multiply_by(int64_t n, const REAL *x, REAL *o) { EACH(u, n) AT(o + u) *= GET(x + u); }

/* Adjoints of the filtered values from the gradient of the table, which is read once. */
static void table_rows_adjoint(const Radial *radial, const Network *network, int64_t number, int64_t first, int64_t count) {
    const int64_t in = row_width(network->widths[network->last]);
    const int64_t columns = network->widths[network->last + 1], out = row_width(columns);
    REAL *const table = find_table(radial, network);
    for (int64_t r = first; r < first + count; r++) {
        memcpy(table + r * out, radial->table_gradients[number] + r * columns, sizeof(REAL) * columns);
        memset(table + r * out + columns, 0, sizeof(REAL) * (out - columns));
    }
    product(count, columns, (int)in, table + first * out, out, 1, find_transpose(network, network->last), in,
            find_filtered_adjoints(radial, network) + first * in, in, 0);
}

/* Adjoint of the last hidden layer at a place: the filter is symmetric. */
static void filter_adjoint(const Radial *radial, const Network *network, int64_t place, REAL *o) {
    const int64_t in = row_width(network->widths[network->last]);
    const REAL *const adjoints = find_filtered_adjoints(radial, network);
    memset(o, 0, sizeof(REAL) * in);
    for (int64_t i = -REACH; i <= REACH; i++) {
        const int64_t row = place - REACH + i;
        if (row < radial->first_row || row >= radial->last_row) continue;
        const REAL factor = (REAL)radial->filter[i < 0 ? -i : i];
        EACH(u, in) AT(o + u) += factor * GET(adjoints + row * in + u);
    }
}

static void hidden_layers_adjoint(const Radial *radial, const Network *network, int64_t first, int64_t count) {
    const int64_t last = network->last;
    REAL *adjoints = last ? find_kept_hidden(radial, network, last, ADJOINTS) : find_basis_adjoints(radial, network);
    for (int64_t p = first; p < first + count; p++)
        filter_adjoint(radial, network, p, adjoints + p * row_width(network->widths[last]));
    for (int64_t k = last; k > 0; k--) {
        const int64_t in = row_width(network->widths[k - 1]), out = row_width(network->widths[k]);
        REAL *const here = find_kept_hidden(radial, network, k, ADJOINTS) + first * out;
        multiply_by(count * out, find_kept_hidden(radial, network, k, DERIVATIVES) + first * out, here);
        if (k == 1 && !radial->basis_gradient) return;
        REAL *const before = k > 1 ? find_kept_hidden(radial, network, k - 1, ADJOINTS) : find_basis_adjoints(radial, network);
        product(count, network->widths[k], (int)in, here, out, 1, find_transpose(network, k - 1), in, before + first * in, in, 0);
    }
}

/* Rows first .. first + OUTER_ROWS of the gradient of matrix k: sums over all places in order, whoever computes them. */
static void matrix_gradient(const Radial *radial, const Network *network, int64_t k, int64_t first) {
    const int64_t inner = network->widths[k], columns = network->widths[k + 1], in = row_width(inner), out = row_width(columns);
    const int64_t here = inner - first < OUTER_ROWS ? inner - first : OUTER_ROWS, start = radial->first_row;
    REAL *const sums = find_sums(network, k) + first * out;
    const REAL *x, *y;
    int64_t stop = last_place(radial);
    if (k == network->last) {
        x = find_kept_filtered(radial, network);
        y = find_table(radial, network);
        stop = radial->last_row;
    } else {
        x = k ? find_kept_hidden(radial, network, k, VALUES) : radial->kept_basis;
        y = find_kept_hidden(radial, network, k + 1, ADJOINTS);
    }
    product(here, stop - start, (int)out, x + start * in + first, 1, in, y + start * out, out, sums, out, 0);
    for (int64_t i = 0; i < here; i++)
        for (int64_t c = 0; c < columns; c++)
            network->gradients[k][(first + i) * columns + c] = (REAL)network->factors[k] * sums[i * out + c];
}

/* The gradient of the basis at a place: of all networks, in order. */
static void basis_gradient(const Radial *radial, int64_t place) {
    const int64_t inputs = radial->widths[0];
    const int is_used = place >= radial->first_row && place < last_place(radial);
    double *const o = radial->basis_gradient + place * inputs;
    memset(o, 0, sizeof(double) * inputs);
    for (int64_t n = 0; is_used && n < radial->networks; n++) {
        const Network network = find_network(radial, n);
        const REAL *const adjoints = find_basis_adjoints(radial, &network) + place * row_width(inputs);
        for (int64_t u = 0; u < inputs; u++) o[u] += (double)adjoints[u];
    }
}

/* Gradients of the weights, and of the basis if it is asked for, from those of the tables. */
void radial_gradients(Radial *radial, int64_t threads) {
    const int64_t start = radial->first_row;
    _Pragma("omp parallel num_threads(threads)") {
        EACH_CHUNK(start, radial->last_row) {
            CHUNK(start, radial->last_row)
            table_rows_adjoint(radial, &network, number, first, count);
        }
        EACH_CHUNK(start, last_place(radial)) {
            CHUNK(start, last_place(radial))
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
            _Pragma("omp for schedule(static)") for (int64_t p = 0; p < radial->places; p++) basis_gradient(radial, p);
        }
    }
}
