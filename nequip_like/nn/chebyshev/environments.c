/* Chebyshev descriptors of environments, and their transposed derivative: descriptor.py has the formulas.

   Edges are sorted by centre; those of atom i are `starts[i]` to `starts[i + 1]`. An atom writes its own features, and
   its own edges, so threads share atoms and nothing else, and their number changes no bit of a result.

   The angular sum runs over pairs of neighbours: for the ten to sixty that there are, this is faster than harmonics. Of
   one neighbour j eight partners k go together, in loops of a fixed length that become vectors. */

#pragma GCC optimize("O3")
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#define WIDTH 8        /* neighbours that go together */
#define MOST_ORDERS 12 /* angular orders, from 0 to 11 */
#define LEAST_ATOMS 8  /* of a thread: for fewer a thread costs more than it gains */
#define ARRAYS 11      /* of Near */

typedef struct {
    int64_t radial_order, angular_order, has_spins;
    double radial_cutoff, angular_cutoff, min_cutoff;
} Sizes;

/* Neighbours of an atom within the angular cutoff, an array for each quantity. Behind the last one stand zeros, up to a
   multiple of WIDTH: neighbours that count nothing. */
typedef struct {
    int64_t count, padded;
    int64_t *edge;
    double *x, *y, *z, *inverse;    /* direction, 1 / distance */
    double *factor, *slope, *spin;  /* cutoff function, its derivative, spin of the species */
    double *weighted;               /* factor * spin */
    double *pull_x, *pull_y, *pull_z;
} Near;

static int64_t size_of(const Sizes *s) {
    return (s->radial_order + s->angular_order + 2) * (s->has_spins ? 2 : 1);
}

static double cutoff_function(double length, double radius) {
    return length < radius ? 0.5 * (cos(M_PI / radius * length) + 1.0) : 0.0;
}

static double cutoff_slope(double length, double radius) {
    return length < radius ? -0.5 * M_PI / radius * sin(M_PI / radius * length) : 0.0;
}

static int64_t count_most(int64_t atoms, const int64_t *starts) {
    int64_t most = 1;
    for (int64_t i = 0; i < atoms; i++)
        if (starts[i + 1] - starts[i] > most) most = starts[i + 1] - starts[i];
    return most;
}

static int make_near(Near *near, int64_t most) {
    const int64_t length = (most + WIDTH - 1) / WIDTH * WIDTH;
    double *memory = malloc(sizeof(double) * ARRAYS * length);
    double **arrays[ARRAYS] = {&near->x,    &near->y,        &near->z,      &near->inverse, &near->factor, &near->slope,
                               &near->spin, &near->weighted, &near->pull_x, &near->pull_y,  &near->pull_z};
    near->edge = malloc(sizeof(int64_t) * length);
    for (int i = 0; i < ARRAYS; i++) *arrays[i] = memory == NULL ? NULL : memory + i * length;
    return memory != NULL && near->edge != NULL;
}

static void free_near(Near *near) {
    free(near->x);
    free(near->edge);
}

static double length_of(const double *vector) {
    return sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2]);
}

static int is_within(const Sizes *s, double length, double radius) {
    return length < radius && !(s->min_cutoff > 0.0 && length <= s->min_cutoff);
}

static void list_near(const Sizes *s, int64_t first, int64_t stop, const double *vectors, const int64_t *types,
                      const double *spins, Near *near) {
    int64_t n = 0;
    for (int64_t e = first; e < stop; e++) {
        const double *v = vectors + 3 * e, length = length_of(v);
        if (!is_within(s, length, s->angular_cutoff)) continue;
        near->edge[n] = e;
        near->inverse[n] = 1.0 / length;
        near->x[n] = v[0] / length;
        near->y[n] = v[1] / length;
        near->z[n] = v[2] / length;
        near->factor[n] = cutoff_function(length, s->angular_cutoff);
        near->slope[n] = cutoff_slope(length, s->angular_cutoff);
        near->spin[n] = spins[types[e]];
        near->weighted[n] = near->factor[n] * near->spin[n];
        n++;
    }
    near->count = n;
    near->padded = (n + WIDTH - 1) / WIDTH * WIDTH;
    for (; n < near->padded; n++) {
        near->x[n] = near->y[n] = near->z[n] = near->inverse[n] = 0.0;
        near->factor[n] = near->slope[n] = near->spin[n] = near->weighted[n] = 0.0;
    }
}

static void describe_angles(const Sizes *s, const Near *near, double *sums, double *weighted_sums) {
    for (int64_t j = 0; j < near->count; j++) {
        const double xj = near->x[j], yj = near->y[j], zj = near->z[j];
        double plain[MOST_ORDERS][WIDTH] = {{0.0}}, spin[MOST_ORDERS][WIDTH] = {{0.0}};
        for (int64_t k = (j + 1) / WIDTH * WIDTH; k < near->padded; k += WIDTH) {
            double c[WIDTH], now[WIDTH], next[WIDTH], factor[WIDTH], weighted[WIDTH];
            for (int b = 0; b < WIDTH; b++) {
                c[b] = xj * near->x[k + b] + yj * near->y[k + b] + zj * near->z[k + b];
                now[b] = 1.0;
                next[b] = c[b];
                factor[b] = k + b > j ? near->factor[k + b] : 0.0; /* each pair once */
                weighted[b] = k + b > j ? near->weighted[k + b] : 0.0;
            }
            for (int64_t n = 0; n <= s->angular_order; n++)
                for (int b = 0; b < WIDTH; b++) {
                    plain[n][b] += factor[b] * now[b];
                    spin[n][b] += weighted[b] * now[b];
                    const double following = 2.0 * c[b] * next[b] - now[b];
                    now[b] = next[b];
                    next[b] = following;
                }
        }
        for (int64_t n = 0; n <= s->angular_order; n++)
            for (int b = 0; b < WIDTH; b++) {
                sums[n] += near->factor[j] * plain[n][b];
                if (s->has_spins) weighted_sums[n] += near->weighted[j] * spin[n][b];
            }
    }
}

/* Features (atoms, size). Returns 0, or 1 if there is no memory. */
int64_t describe_environments(const Sizes *s, int64_t atoms, const int64_t *starts, const double *vectors,
                              const int64_t *types, const double *spins, double *features, int64_t threads) {
    const int64_t size = size_of(s), half = s->radial_order + s->angular_order + 2, most = count_most(atoms, starts);
    const int64_t useful = 1 + atoms / LEAST_ATOMS;
    int64_t failed = 0;
#pragma omp parallel num_threads(threads < useful ? threads : useful) reduction(+ : failed)
    {
        Near near;
        const int there = make_near(&near, most);
        failed += !there;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < atoms; i++) {
            double *own = features + size * i;
            for (int64_t n = 0; n < size; n++) own[n] = 0.0;
            if (!there) continue;
            for (int64_t e = starts[i]; e < starts[i + 1]; e++) {
                const double *v = vectors + 3 * e, length = length_of(v);
                if (!is_within(s, length, s->radial_cutoff)) continue;
                const double x = 2.0 / s->radial_cutoff * length - 1.0, spin = spins[types[e]];
                const double factor = cutoff_function(length, s->radial_cutoff);
                double last = factor * x, next = factor; /* T_{-1} = T_1 */
                for (int64_t n = 0; n <= s->radial_order; n++) {
                    own[n] += next;
                    if (s->has_spins) own[half + n] += spin * next;
                    const double following = n == 0 ? factor * x : 2.0 * x * next - last;
                    last = next;
                    next = following;
                }
            }
            list_near(s, starts[i], starts[i + 1], vectors, types, spins, &near);
            describe_angles(s, &near, own + s->radial_order + 1, own + half + s->radial_order + 1);
        }
        free_near(&near);
    }
    return failed;
}

/* Add what pairs of near neighbours give: dE/dr of their edges, from dE/dG of the centre. */
static void pull_angles(const Sizes *s, Near *near, const double *plain, const double *spin, double *pulls) {
    for (int64_t k = 0; k < near->padded; k++) near->pull_x[k] = near->pull_y[k] = near->pull_z[k] = 0.0;
    for (int64_t j = 0; j < near->count; j++) {
        const double xj = near->x[j], yj = near->y[j], zj = near->z[j], inverse_j = near->inverse[j];
        double px[WIDTH] = {0.0}, py[WIDTH] = {0.0}, pz[WIDTH] = {0.0};
        for (int64_t k = (j + 1) / WIDTH * WIDTH; k < near->padded; k += WIDTH) {
            double c[WIDTH], now[WIDTH], next[WIDTH], second_now[WIDTH], second_next[WIDTH]; /* T_n, and U_{n-1} */
            double value[WIDTH], slope[WIDTH], spins[WIDTH];
            for (int b = 0; b < WIDTH; b++) {
                c[b] = xj * near->x[k + b] + yj * near->y[k + b] + zj * near->z[k + b];
                now[b] = 1.0;
                next[b] = c[b];
                second_now[b] = 0.0;
                second_next[b] = 1.0;
                value[b] = slope[b] = 0.0;
                spins[b] = near->spin[j] * near->spin[k + b];
            }
            for (int64_t n = 0; n <= s->angular_order; n++)
                for (int b = 0; b < WIDTH; b++) {
                    const double weight = plain[n] + spins[b] * spin[n];
                    value[b] += weight * now[b];
                    slope[b] += weight * (double)n * second_now[b];
                    const double following = 2.0 * c[b] * next[b] - now[b];
                    const double second = 2.0 * c[b] * second_next[b] - second_now[b];
                    now[b] = next[b];
                    next[b] = following;
                    second_now[b] = second_next[b];
                    second_next[b] = second;
                }
            for (int b = 0; b < WIDTH; b++) {
                const double once = k + b > j ? 1.0 : 0.0;
                const double xk = near->x[k + b], yk = near->y[k + b], zk = near->z[k + b];
                const double along_j = once * near->slope[j] * near->factor[k + b] * value[b];
                const double along_k = once * near->factor[j] * near->slope[k + b] * value[b];
                const double turn = once * near->factor[j] * near->factor[k + b] * slope[b];
                const double turn_j = turn * inverse_j, turn_k = turn * near->inverse[k + b];
                px[b] += along_j * xj + turn_j * (xk - c[b] * xj);
                py[b] += along_j * yj + turn_j * (yk - c[b] * yj);
                pz[b] += along_j * zj + turn_j * (zk - c[b] * zj);
                near->pull_x[k + b] += along_k * xk + turn_k * (xj - c[b] * xk);
                near->pull_y[k + b] += along_k * yk + turn_k * (yj - c[b] * yk);
                near->pull_z[k + b] += along_k * zk + turn_k * (zj - c[b] * zk);
            }
        }
        for (int b = 0; b < WIDTH; b++) {
            near->pull_x[j] += px[b];
            near->pull_y[j] += py[b];
            near->pull_z[j] += pz[b];
        }
    }
    for (int64_t k = 0; k < near->count; k++) {
        double *pull = pulls + 3 * near->edge[k];
        pull[0] += near->pull_x[k];
        pull[1] += near->pull_y[k];
        pull[2] += near->pull_z[k];
    }
}

/* dE/dr of each edge (edges, 3), from dE/dG (atoms, size). Returns 0, or 1 if there is no memory. */
int64_t pull_back(const Sizes *s, int64_t atoms, const int64_t *starts, const double *vectors, const int64_t *types,
                  const double *spins, const double *gradients, double *pulls, int64_t threads) {
    const int64_t size = size_of(s), half = s->radial_order + s->angular_order + 2, most = count_most(atoms, starts);
    const int64_t useful = 1 + atoms / LEAST_ATOMS;
    int64_t failed = 0;
#pragma omp parallel num_threads(threads < useful ? threads : useful) reduction(+ : failed)
    {
        Near near;
        const int there = make_near(&near, most);
        failed += !there;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < atoms; i++) {
            const double *own = gradients + size * i;
            for (int64_t n = 3 * starts[i]; n < 3 * starts[i + 1]; n++) pulls[n] = 0.0;
            if (!there) continue;
            for (int64_t e = starts[i]; e < starts[i + 1]; e++) {
                const double *v = vectors + 3 * e, length = length_of(v);
                if (!is_within(s, length, s->radial_cutoff)) continue;
                const double scale = 2.0 / s->radial_cutoff, x = scale * length - 1.0, spin = spins[types[e]];
                double t0 = 1.0, t1 = x, u0 = 0.0, u1 = 1.0, value = 0.0, slope = 0.0;
                for (int64_t n = 0; n <= s->radial_order; n++) {
                    const double weight = own[n] + (s->has_spins ? spin * own[half + n] : 0.0);
                    value += weight * t0;
                    slope += weight * n * u0;
                    const double t2 = 2.0 * x * t1 - t0, u2 = 2.0 * x * u1 - u0;
                    t0 = t1;
                    t1 = t2;
                    u0 = u1;
                    u1 = u2;
                }
                const double pull = (value * cutoff_slope(length, s->radial_cutoff) +
                                     scale * slope * cutoff_function(length, s->radial_cutoff)) / length;
                for (int a = 0; a < 3; a++) pulls[3 * e + a] += pull * v[a];
            }
            list_near(s, starts[i], starts[i + 1], vectors, types, spins, &near);
            /* Of one species all spins are zero: what they are multiplied with does not matter. */
            const double *plain = own + s->radial_order + 1;
            pull_angles(s, &near, plain, s->has_spins ? plain + half : plain, pulls);
        }
        free_near(&near);
    }
    return failed;
}
