/* Second derivatives: the Hessian of the energy times changes of the positions, exactly.

   Along a change v of the edge vectors the gradient by the edge vectors changes by the Hessian times v. So this is the
   tangent of network_reverse: the pass back with each of its numbers followed by its change. The tangents of the features
   are those of network_tangent, which training uses, and the changes of their adjoints (b2) obey the equations of
   network_dual, without those of the parameters. What is new are the last steps, from radial functions and harmonics to
   the edge vectors, and the second derivative of the splines.

   This is part of a library of its own, which is compiled when somebody asks for a Hessian. */

/* Second derivatives of the six splines at t. */
static void spline_curvatures(double t, double *c) {
    const double t2 = t * t, t3 = t2 * t, s = 1 - t;
    c[0] = s * s * s / 6;
    c[1] = (40 + 120 * t - 240 * t2 + 100 * t3) / 120;
    c[2] = (-120 + 360 * t2 - 200 * t3) / 120;
    c[3] = (40 - 120 * t - 240 * t2 + 200 * t3) / 120;
    c[4] = (20 + 60 * t + 60 * t2 - 100 * t3) / 120;
    c[5] = t3 / 6;
}

static int type_of(const Net *net, int64_t atom) {
    int type = 0;
    while (atom >= net->type_start[type + 1]) type++;
    return type;
}

/* Of the values, once for all changes: the curvatures of the basis, by sending atom. */
static void edge_curvature(const Net *net, int64_t i) {
    const int64_t e = net->sent[i];
    if (net->interval[e] < 0) return;
    double unit[3], c[TAPS];
    const double length = unit_vector(net->vectors + 3 * net->original[e], unit);
    const double inverse = net->inverse_cutoff[type_of(net, net->sent_centre[i]) * TYPES + type_of(net, net->neighbour[e])];
    const double knots = KNOTS * inverse;
    spline_curvatures(length * inverse * KNOTS - net->interval[e], c);
    for (int t = 0; t < TAPS; t++) net->sent_curvature[i * TAPS + t] = (REAL)(c[t] * knots * knots);
}

/* Of each change: the tangents by sending atom, and zeros where the layers add. */
static void edge_sent_change(const Net *net, int64_t i) {
    edge_sent_tangent(net, i);
    net->length_gradient_tangent[i] = 0;
    memset(net->harmonics_gradient_tangent + i * HARMONICS, 0, sizeof(REAL) * HARMONICS);
}

/* The change of what edge_reverse gives. */
static void edge_reverse_tangent(const Net *net, int64_t i) {
    const int64_t e = net->sent[i];
    double *change = net->gradient + 3 * net->original[e];
    if (net->interval[e] < 0) {
        change[0] = change[1] = change[2] = 0;
        return;
    }
    double unit[3], unit_t[3], y[HARMONICS], yt[HARMONICS], yb[HARMONICS], ybt[HARMONICS], turn[3], turn_t[3];
    const double length = unit_vector(net->vectors + 3 * net->original[e], unit), *v = net->directions + 3 * net->original[e];
    const double length_t = unit[0] * v[0] + unit[1] * v[1] + unit[2] * v[2];
    for (int x = 0; x < 3; x++) unit_t[x] = (v[x] - length_t * unit[x]) / length;
    evaluate_harmonics(unit, y);
    harmonics_along(y, unit_t, yt);
    for (int j = 0; j < HARMONICS; j++) {
        yb[j] = net->harmonics_gradient[i * HARMONICS + j];
        ybt[j] = net->harmonics_gradient_tangent[i * HARMONICS + j];
    }
    harmonics_adjoint_along(y, yt, yb, ybt, turn, turn_t);
    double along = 0, along_t = 0;
    for (int x = 0; x < 3; x++) {
        along += unit[x] * turn[x];
        along_t += unit_t[x] * turn[x] + unit[x] * turn_t[x];
    }
    for (int x = 0; x < 3; x++) {
        const double across = (turn[x] - along * unit[x]) / length;
        const double across_t = (turn_t[x] - along_t * unit[x] - along * unit_t[x] - length_t * across) / length;
        change[x] = across_t + net->length_gradient_tangent[i] * unit[x] + net->length_gradient[i] * unit_t[x];
    }
}

/* The change of the edge vectors along one of the positions, in the caller's order of atoms and edges. */
static void edge_changes(const Net *net, const double *positions, double *vectors) {
    _Pragma("omp parallel for schedule(static) num_threads(net->threads)") for (int64_t a = 0; a < net->atoms; a++)
        for (int64_t e = net->row[a]; e < net->row[a + 1]; e++) {
            const double *here = positions + 3 * net->atom_order[a], *there = positions + 3 * net->atom_order[net->neighbour[e]];
            for (int x = 0; x < 3; x++) vectors[3 * net->original[e] + x] = there[x] - here[x];
        }
}

/* The gradient by the positions, of that by the edge vectors. */
static void position_gradient(const Net *net, const double *gradient, double *o) {
    _Pragma("omp parallel for schedule(static) num_threads(net->threads)") for (int64_t a = 0; a < net->atoms; a++) {
        double sum[3] = {0};
        for (int64_t i = net->sent_row[a]; i < net->sent_row[a + 1]; i++)
            for (int x = 0; x < 3; x++) sum[x] += gradient[3 * net->original[net->sent[i]] + x];
        for (int64_t e = net->row[a]; e < net->row[a + 1]; e++)
            for (int x = 0; x < 3; x++) sum[x] -= gradient[3 * net->original[e] + x];
        memcpy(o + 3 * net->atom_order[a], sum, sizeof sum);
    }
}

typedef struct Head Head;
void head_reverse_tangent(const Net *net, const Head *head);
void network_tangent(const Net *net);
void network_reverse_tangent(const Net *net);

/* The Hessian of the sum of all energies times count changes of the positions, each (atoms, 3); after potential_energies.
   directions, which is net->directions, and net->gradient are for (edges, 3) numbers. */
void potential_hessian(const Net *net, const Head *head, int64_t count, const double *changes, double *directions,
                       double *products) {
    _Pragma("omp parallel for schedule(static) num_threads(net->threads)") for (int64_t i = 0; i < net->edges; i++)
        edge_curvature(net, i);
    for (int64_t k = 0; k < count; k++) {
        edge_changes(net, changes + 3 * net->atoms * k, directions);
        network_tangent(net);
        head_reverse_tangent(net, head);
        network_reverse_tangent(net);
        position_gradient(net, net->gradient, products + 3 * net->atoms * k);
    }
}
