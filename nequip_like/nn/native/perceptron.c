/* What multilayer perceptrons of any widths share. Their rows are padded to whole vectors, with zeros. */

static int64_t pad(int64_t width) { return (width + LANES - 1) / LANES * LANES; }

/* For each vector of n numbers z: the activation with its derivatives, f, d and dd, and what is to be done with them. */
#define EACH_NUMBER(NAME, ...)                                                                                        \
    for (int64_t u = 0; u < n; u += LANES) {                                                                          \
        V f, d, dd;                                                                                                   \
        NAME(GET(z + u), &f, &d, &dd);                                                                                \
        __VA_ARGS__;                                                                                                  \
    }
INLINE void identity(V x, V *f, V *d, V *dd) {
    *f = x;
    *d = (V){0} + (REAL)1;
    *dd = (V){0};
}
/* In the order of ACTIVATIONS in spec.py. */
#define WITH_ACTIVATION(NUMBER, ...)                                                                                  \
    switch (NUMBER) {                                                                                                 \
    case 0: EACH_NUMBER(identity, __VA_ARGS__) break;                                                                 \
    case 1: EACH_NUMBER(silu, __VA_ARGS__) break;                                                                     \
    case 2: EACH_NUMBER(tanh_, __VA_ARGS__) break;                                                                    \
    case 3: EACH_NUMBER(ssp, __VA_ARGS__) break;                                                                      \
    case 4: EACH_NUMBER(abs_, __VA_ARGS__) break;                                                                     \
    case 5: EACH_NUMBER(gelu, __VA_ARGS__) break;                                                                     \
    case 6: EACH_NUMBER(mish, __VA_ARGS__) break;                                                                     \
    }
