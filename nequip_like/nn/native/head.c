/* The head of a network: what becomes of the features of the last layer.

   Energy of an atom of species t: shifts[t] + scales[t] raw, with raw the output of a multilayer perceptron without
   biases. Its input is h_0; z_(k+1) = h_k W_k and h_(k+1) = activation(z_(k+1)) are its hidden layers, and the last
   product has one column. Before the network positions become edge vectors; after it energies become those of structures,
   and the gradient by edge vectors becomes forces, virials and stresses.

   For a loss with adjoints e of the energies, and for a direction v of the edge vectors (see network_source.py), the
   function to be differentiated by the parameters is sum_a e_a E_a + d(sum_a E_a) along v. As in the other passes a
   trailing t is a tangent, b an adjoint, and adjoints of tangents are those of the first pass back.

   Rows are padded, see perceptron.c. */

#include "perceptron.c"

typedef struct {
    int64_t depth, activation, graphs, kinds, train_network;
    const int64_t *widths;      /* of the input and of each hidden layer */
    const int64_t *kind_widths; /* of the scalars that the input consists of */
    const double *factors;      /* of each matrix */
    const REAL *const *weights;
    REAL *const *gradients; /* null where none is asked for */
    const double *scales, *shifts;
    double *scales_gradient, *shifts_gradient; /* null where none is asked for */
    /* Of each kind: features and their tangents, adjoints of the first and of the second pass back */
    const REAL *const *features, *const *tangents;
    REAL *const *adjoints, *const *second_adjoints;
    REAL *prepared, *memory;
    /* All that follows is in the caller's order. Without periodic images translations are null, without cells these. */
    const int64_t *graph_of_atom;
    const double *positions, *translations, *cells;
    double *energies, *totals, *forces, *stress, *virial, *strain; /* the last: room for 9 numbers of each structure */
    const double *energies_adjoint, *totals_adjoint, *forces_adjoint, *stress_adjoint, *virial_adjoint; /* null: zero */
} Head;

void network_prepare(const Net *net);
void network_forward(const Net *net);
void network_reverse(const Net *net);
void network_tangent(const Net *net);
void network_dual(const Net *net);
/* Those of radial.c, whose numbers are of another type. */
typedef struct Radial Radial;
void radial_tables(Radial *radial, int64_t first_row, int64_t last_row, int64_t threads);
void radial_gradients(Radial *radial, int64_t threads);
void edge_sums(const Net *net, const double *g, double *differences, double *products);

/* --- memory: for each atom, rows of all layers in sections, and numbers */

enum { H, Z, HTB, ZTB, HT, ZT, ZB };       /* sections; a prediction has the first four */
enum { RAW, RAW_TANGENT, RAW_ADJOINT, RAW_TANGENT_ADJOINT, NUMBERS };

static int64_t section_size(const Head *head) {
    int64_t size = 0;
    for (int64_t k = 0; k <= head->depth; k++) size += pad(head->widths[k]);
    return size;
}

/* Numbers of the memory for one atom. */
int64_t head_memory(const Head *head, int64_t keep) { return NUMBERS + section_size(head) * (keep ? ZB + 1 : ZTB + 1); }

/* Numbers of the prepared weights: of each matrix a scaled copy, its transpose and room for its gradient. */
int64_t head_prepared(const Head *head) {
    int64_t size = pad(head->widths[head->depth]) * 2;
    for (int64_t k = 0; k < head->depth; k++)
        size += 2 * head->widths[k] * pad(head->widths[k + 1]) + head->widths[k + 1] * pad(head->widths[k]);
    return size;
}

static REAL *numbers(const Net *net, const Head *head, int which) { return head->memory + which * net->atoms; }

static REAL *rows(const Net *net, const Head *head, int section, int64_t layer) {
    int64_t place = NUMBERS + section * section_size(head);
    for (int64_t k = 0; k < layer; k++) place += pad(head->widths[k]);
    return head->memory + place * net->atoms;
}

/* Where the scaled copy of matrix k begins; its transpose and its gradient follow. The last is a vector. */
static REAL *prepared_weights(const Head *head, int64_t k) {
    REAL *place = head->prepared;
    for (int64_t i = 0; i < k; i++)
        place += 2 * head->widths[i] * pad(head->widths[i + 1]) + head->widths[i + 1] * pad(head->widths[i]);
    return place;
}

static REAL *transposed_weights(const Head *head, int64_t k) {
    return prepared_weights(head, k) + head->widths[k] * pad(head->widths[k + 1]);
}

static REAL *weight_sums(const Head *head, int64_t k) {
    if (k == head->depth) return prepared_weights(head, k) + pad(head->widths[k]);
    return transposed_weights(head, k) + head->widths[k + 1] * pad(head->widths[k]);
}

static void head_prepare(const Head *head) {
    memset(head->prepared, 0, sizeof(REAL) * head_prepared(head));
    for (int64_t k = 0; k < head->depth; k++) {
        const int64_t inner = head->widths[k], columns = head->widths[k + 1];
        REAL *const copy = prepared_weights(head, k), *const transposed = transposed_weights(head, k);
        for (int64_t i = 0; i < inner; i++)
            for (int64_t c = 0; c < columns; c++)
                copy[i * pad(columns) + c] = transposed[c * pad(inner) + i] =
                    (REAL)head->factors[k] * head->weights[k][i * columns + c];
    }
    REAL *const last = prepared_weights(head, head->depth);
    for (int64_t i = 0; i < head->widths[head->depth]; i++)
        last[i] = (REAL)head->factors[head->depth] * head->weights[head->depth][i];
}

/* --- activations of n numbers */

static void activate(const Head *head, int64_t n, const REAL *z, REAL *h) { WITH_ACTIVATION(head->activation, AT(h + u) = f) }

/* Along or against it: o = activation'(z) x. */
static void activate_linear(const Head *head, int64_t n, const REAL *z, const REAL *x, REAL *o) {
    WITH_ACTIVATION(head->activation, AT(o + u) = d * GET(x + u))
}

/* zb = activation'(z) zb + activation''(z) zt htb, in place. */
static void activate_dual(const Head *head, int64_t n, const REAL *z, const REAL *zt, const REAL *htb, REAL *zb) {
    WITH_ACTIVATION(head->activation, AT(zb + u) = d * GET(zb + u) + dd * GET(zt + u) * GET(htb + u))
}

/* --- between the kinds of the last features and rows */

static void gather(const Head *head, int64_t a, int64_t n, const REAL *const *kinds, REAL *o) {
    const int64_t width = pad(head->widths[0]);
    for (int64_t i = 0; i < n; i++) {
        REAL *place = o + i * width;
        for (int64_t k = 0; k < head->kinds; k++) {
            memcpy(place, kinds[k] + (a + i) * head->kind_widths[k], sizeof(REAL) * head->kind_widths[k]);
            place += head->kind_widths[k];
        }
        memset(place, 0, sizeof(REAL) * (width - head->widths[0]));
    }
}

static void scatter(const Head *head, int64_t a, int64_t n, const REAL *x, REAL *const *kinds) {
    for (int64_t i = 0; i < n; i++) {
        const REAL *place = x + i * pad(head->widths[0]);
        for (int64_t k = 0; k < head->kinds; k++) {
            memcpy(kinds[k] + (a + i) * head->kind_widths[k], place, sizeof(REAL) * head->kind_widths[k]);
            place += head->kind_widths[k];
        }
    }
}

static REAL dot(int64_t n, const REAL *x, const REAL *y) {
    V sum = {0};
    EACH(u, n) sum += GET(x + u) * GET(y + u);
    return sum_lanes(sum);
}

static void scaled_copy(int64_t n, REAL factor, const REAL *x, REAL *o) { EACH(u, n) AT(o + u) = factor * GET(x + u); }

/* --- the passes, for the n atoms of species t from a on */

static void block_forward(const Net *net, const Head *head, int64_t a, int64_t n, int64_t t) {
    const int64_t depth = head->depth, last = pad(head->widths[depth]);
    const REAL *const vector = prepared_weights(head, depth);
    gather(head, a, n, head->features, rows(net, head, H, 0) + a * pad(head->widths[0]));
    for (int64_t k = 0; k < depth; k++) {
        const int64_t in = pad(head->widths[k]), out = pad(head->widths[k + 1]);
        REAL *const z = rows(net, head, Z, k + 1) + a * out;
        product(n, head->widths[k], out, rows(net, head, H, k) + a * in, in, 1, prepared_weights(head, k), out, z, out, 0);
        activate(head, n * out, z, rows(net, head, H, k + 1) + a * out);
    }
    for (int64_t i = a; i < a + n; i++) {
        const REAL raw = dot(last, rows(net, head, H, depth) + i * last, vector);
        numbers(net, head, RAW)[i] = raw;
        head->energies[net->atom_order[i]] = head->shifts[t] + head->scales[t] * (double)raw;
        if (!net->gradient) continue;
        /* The first pass back begins: all energies have the adjoint 1. */
        scaled_copy(last, (REAL)head->scales[t], vector, rows(net, head, HTB, depth) + i * last);
    }
    if (!net->gradient) return;
    for (int64_t k = depth; k > 0; k--) {
        const int64_t in = pad(head->widths[k - 1]), out = pad(head->widths[k]);
        REAL *const ztb = rows(net, head, ZTB, k) + a * out;
        activate_linear(head, n * out, rows(net, head, Z, k) + a * out, rows(net, head, HTB, k) + a * out, ztb);
        product(n, head->widths[k], in, ztb, out, 1, transposed_weights(head, k - 1), in,
                rows(net, head, HTB, k - 1) + a * in, in, 0);
    }
    scatter(head, a, n, rows(net, head, HTB, 0) + a * pad(head->widths[0]), head->adjoints);
}

static double adjoint_of_energy(const Head *head, int64_t atom) {
    double adjoint = head->energies_adjoint ? head->energies_adjoint[atom] : 0;
    if (head->totals_adjoint) adjoint += head->totals_adjoint[head->graph_of_atom[atom]];
    return adjoint;
}

static void block_dual(const Net *net, const Head *head, int64_t a, int64_t n, int64_t t) {
    const int64_t depth = head->depth, last = pad(head->widths[depth]);
    const REAL *const vector = prepared_weights(head, depth);
    gather(head, a, n, head->tangents, rows(net, head, HT, 0) + a * pad(head->widths[0]));
    for (int64_t k = 0; k < depth; k++) {
        const int64_t in = pad(head->widths[k]), out = pad(head->widths[k + 1]);
        REAL *const zt = rows(net, head, ZT, k + 1) + a * out;
        product(n, head->widths[k], out, rows(net, head, HT, k) + a * in, in, 1, prepared_weights(head, k), out, zt, out, 0);
        activate_linear(head, n * out, rows(net, head, Z, k + 1) + a * out, zt, rows(net, head, HT, k + 1) + a * out);
    }
    for (int64_t i = a; i < a + n; i++) {
        numbers(net, head, RAW_TANGENT)[i] = dot(last, rows(net, head, HT, depth) + i * last, vector);
        const REAL adjoint = (REAL)(adjoint_of_energy(head, net->atom_order[i]) * head->scales[t]);
        numbers(net, head, RAW_ADJOINT)[i] = adjoint;
        numbers(net, head, RAW_TANGENT_ADJOINT)[i] = (REAL)head->scales[t];
        scaled_copy(last, adjoint, vector, rows(net, head, ZB, depth) + i * last);
    }
    for (int64_t k = depth; k > 0; k--) {
        const int64_t in = pad(head->widths[k - 1]), out = pad(head->widths[k]);
        REAL *const zb = rows(net, head, ZB, k) + a * out;
        activate_dual(head, n * out, rows(net, head, Z, k) + a * out, rows(net, head, ZT, k) + a * out,
                      rows(net, head, HTB, k) + a * out, zb);
        product(n, head->widths[k], in, zb, out, 1, transposed_weights(head, k - 1), in,
                rows(net, head, ZB, k - 1) + a * in, in, 0);
    }
    scatter(head, a, n, rows(net, head, ZB, 0) + a * pad(head->widths[0]), head->second_adjoints);
}

/* Gradients of the scale and the shift of species t. */
static void scale_gradients(const Net *net, const Head *head, int64_t t) {
    double scale = 0, shift = 0;
    for (int64_t i = net->type_start[t]; i < net->type_start[t + 1]; i++) {
        const double adjoint = adjoint_of_energy(head, net->atom_order[i]);
        scale += adjoint * (double)numbers(net, head, RAW)[i] + (double)numbers(net, head, RAW_TANGENT)[i];
        shift += adjoint;
    }
    if (head->scales_gradient) head->scales_gradient[t] = scale;
    if (head->shifts_gradient) head->shifts_gradient[t] = shift;
}

/* Rows first .. first + OUTER_ROWS of the gradient of matrix k: sums over all atoms in order, whoever computes them. */
static void weight_gradient(const Net *net, const Head *head, int64_t k, int64_t first) {
    const int64_t inner = head->widths[k], columns = head->widths[k + 1], in = pad(inner), out = pad(columns);
    const int64_t here = inner - first < OUTER_ROWS ? inner - first : OUTER_ROWS;
    REAL *const sums = weight_sums(head, k) + first * out;
    product(here, net->atoms, out, rows(net, head, H, k) + first, 1, in, rows(net, head, ZB, k + 1), out, sums, out, 0);
    product(here, net->atoms, out, rows(net, head, HT, k) + first, 1, in, rows(net, head, ZTB, k + 1), out, sums, out, 1);
    for (int64_t i = 0; i < here; i++)
        for (int64_t c = 0; c < columns; c++)
            head->gradients[k][(first + i) * columns + c] = (REAL)head->factors[k] * sums[i * out + c];
}

static void last_weight_gradient(const Net *net, const Head *head) {
    const int64_t k = head->depth, width = head->widths[k], padded = pad(width);
    REAL *const sums = weight_sums(head, k);
    product(1, net->atoms, padded, numbers(net, head, RAW_ADJOINT), 0, 1, rows(net, head, H, k), padded, sums, padded, 0);
    product(1, net->atoms, padded, numbers(net, head, RAW_TANGENT_ADJOINT), 0, 1, rows(net, head, HT, k), padded, sums, padded, 1);
    for (int64_t c = 0; c < width; c++) head->gradients[k][c] = (REAL)head->factors[k] * sums[c];
}

static void head_dual(const Net *net, const Head *head) {
    _Pragma("omp parallel num_threads(net->threads)") {
        _Pragma("omp for schedule(dynamic, 1)") for (int64_t b = 0; b < net->blocks; b++)
            block_dual(net, head, net->block_start[b], net->block_stop[b] - net->block_start[b], net->block_type[b]);
        for (int64_t k = 0; k < head->depth; k++) {
            if (!head->gradients[k]) continue;
            _Pragma("omp for schedule(dynamic, 1) nowait") for (int64_t r = 0; r < head->widths[k]; r += OUTER_ROWS)
                weight_gradient(net, head, k, r);
        }
        _Pragma("omp single nowait") if (head->gradients[head->depth]) last_weight_gradient(net, head);
        if (head->scales_gradient || head->shifts_gradient) {
            _Pragma("omp for schedule(dynamic, 1) nowait") for (int64_t t = 0; t < TYPES; t++) scale_gradients(net, head, t);
        }
    }
}

/* --- the whole: energies, what derivatives make of them, and the gradients of a loss */

/* Writes the vector of edge e, which atom receiver receives; returns its length over the cutoff. */
static double edge_vector(const Net *net, const Head *head, double *vectors, int64_t receiver, int64_t e) {
    const int64_t here = net->atom_order[receiver], there = net->atom_order[net->neighbour[e]];
    double *vector = vectors + 3 * net->original[e];
    for (int x = 0; x < 3; x++) vector[x] = head->positions[3 * there + x] - head->positions[3 * here + x];
    if (head->translations) {
        const double *shift = head->translations + 3 * net->original[e], *cell = head->cells + 9 * head->graph_of_atom[here];
        for (int x = 0; x < 3; x++) vector[x] += shift[0] * cell[x] + shift[1] * cell[3 + x] + shift[2] * cell[6 + x];
    }
    int here_type = 0, there_type = 0;
    while (receiver >= net->type_start[here_type + 1]) here_type++;
    while (net->neighbour[e] >= net->type_start[there_type + 1]) there_type++;
    const double length = sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2]);
    return length * net->inverse_cutoff[here_type * TYPES + there_type];
}

/* Edge vectors; tells an interval of the radial tables before which no edge lies, and one behind which none does. */
static void edge_vectors(const Net *net, const Head *head, double *vectors, int64_t *first, int64_t *last) {
    double least = 1, most = 0;
    _Pragma("omp parallel for schedule(static) num_threads(EDGE_THREADS(net)) reduction(min : least) reduction(max : most)")
    for (int64_t a = 0; a < net->atoms; a++)
        for (int64_t e = net->row[a]; e < net->row[a + 1]; e++) {
            const double place = edge_vector(net, head, vectors, a, e);
            /* A vector that is not finite lies in interval 0. */
            least = place >= least ? least : place > 0 ? place : 0;
            if (place > most && place < 1.001) most = place; /* edges beyond the cutoff are not looked up */
        }
    /* One less and one more: where the edge is looked up its length may be rounded in another way. */
    const int64_t before = (int64_t)(least * KNOTS) - 1, behind = (int64_t)(most * KNOTS) + 1;
    *first = before > 0 ? before : 0;
    *last = behind < KNOTS ? behind : KNOTS - 1;
}

/* Edge vectors, energies of the atoms, and, unless gradient is null, that of their sum with respect to the edge vectors.
   With radial the parameters are new. */
void potential_energies(const Net *net, const Head *head, Radial *radial, double *vectors) {
    int64_t first, last;
    edge_vectors(net, head, vectors, &first, &last);
    if (radial) {
        /* In training no step but this one reads the tables; predictions keep them. An interval i reads rows i .. i + 5. */
        radial_tables(radial, net->keep ? first : 0, (net->keep ? last : KNOTS - 1) + TAPS, net->threads);
        network_prepare(net);
        head_prepare(head);
    }
    network_forward(net);
    _Pragma("omp parallel for schedule(dynamic, 1) num_threads(net->threads)") for (int64_t b = 0; b < net->blocks; b++)
        block_forward(net, head, net->block_start[b], net->block_stop[b] - net->block_start[b], net->block_type[b]);
    if (net->gradient) network_reverse(net);
}

/* Of a structure's cell; 0 if there is none. */
static double volume(const Head *head, int64_t graph) {
    if (!head->cells) return 0;
    const double *a = head->cells + 9 * graph, *b = a + 3, *c = a + 6;
    return fabs(a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0]));
}

/* Energies of structures, forces on atoms, stresses and virials; products is for (atoms, 9) numbers. A structure without
   a cell has neither stress nor virial. */
void potential_sums(const Net *net, const Head *head, double *products) {
    edge_sums(net, net->gradient, head->forces, products);
    memset(head->totals, 0, sizeof(double) * head->graphs);
    memset(head->strain, 0, sizeof(double) * head->graphs * 9);
    for (int64_t a = 0; a < net->atoms; a++) {
        const int64_t graph = head->graph_of_atom[a];
        head->totals[graph] += head->energies[a];
        for (int i = 0; i < 9; i++) head->strain[9 * graph + i] += products[9 * a + i];
    }
    for (int64_t graph = 0; graph < head->graphs; graph++) {
        const double size = volume(head, graph);
        for (int i = 0; i < 9; i++) {
            const double strain = 0.5 * (head->strain[9 * graph + i] + head->strain[9 * graph + 3 * (i % 3) + i / 3]);
            head->stress[9 * graph + i] = size > 0 ? strain / size : NAN;
            head->virial[9 * graph + i] = size > 0 ? -strain : NAN;
        }
    }
}

/* The adjoint of the sum of vector (x) gradient over a structure's edges, from those of stress and virial. */
static void strain_adjoint(const Head *head, int64_t graph, double *adjoint) {
    const double size = volume(head, graph);
    memset(adjoint, 0, sizeof(double) * 9);
    if (!(size > 0)) return;
    for (int i = 0; i < 9; i++) {
        const int64_t one = 9 * graph + i, two = 9 * graph + 3 * (i % 3) + i / 3;
        if (head->stress_adjoint) adjoint[i] += 0.5 * (head->stress_adjoint[one] + head->stress_adjoint[two]) / size;
        if (head->virial_adjoint) adjoint[i] -= 0.5 * (head->virial_adjoint[one] + head->virial_adjoint[two]);
    }
}

/* The loss's gradient with respect to the gradient by the edge vectors: a direction of these. */
static void edge_direction(const Net *net, const Head *head, double *directions, int64_t receiver, int64_t e) {
    const int64_t here = net->atom_order[receiver], there = net->atom_order[net->neighbour[e]], i = net->original[e];
    const double *vector = net->vectors + 3 * i, *strain = head->strain + 9 * head->graph_of_atom[here];
    for (int y = 0; y < 3; y++) {
        double sum = vector[0] * strain[y] + vector[1] * strain[3 + y] + vector[2] * strain[6 + y];
        if (head->forces_adjoint) sum += head->forces_adjoint[3 * here + y] - head->forces_adjoint[3 * there + y];
        directions[3 * i + y] = sum;
    }
}

#ifdef HESSIAN
/* The change of the pass back along the tangents of the last features; energies have no adjoint of their own. */
void head_reverse_tangent(const Net *net, const Head *head) {
    _Pragma("omp parallel for schedule(dynamic, 1) num_threads(net->threads)") for (int64_t b = 0; b < net->blocks; b++)
        block_dual(net, head, net->block_start[b], net->block_stop[b] - net->block_start[b], net->block_type[b]);
}
#else
/* Gradients of all parameters. */
void potential_gradients(const Net *net, const Head *head, Radial *radial, double *directions) {
    for (int64_t graph = 0; graph < head->graphs; graph++) strain_adjoint(head, graph, head->strain + 9 * graph);
    _Pragma("omp parallel for schedule(static) num_threads(EDGE_THREADS(net))") for (int64_t a = 0; a < net->atoms; a++)
        for (int64_t e = net->row[a]; e < net->row[a + 1]; e++) edge_direction(net, head, directions, a, e);
    network_tangent(net);
    head_dual(net, head);
    if (!head->train_network) return;
    network_dual(net);
    radial_gradients(radial, net->threads);
}
#endif
