/* Errors of all terms of a loss in one call: differences, their sums, numbers of labels; and gradients in another.

   Sums are those of NumPy to the last bit: pairs of halves, with eight sums side by side within a block. Products and sums
   of a function are contracted by the compiler, which would round differently; so errors are written to a block by one
   function, and added up by another that is not put into it. */

#include <math.h>
#include <stdint.h>

#define BLOCK 128 /* numbers that are added up without halving, as in NumPy */
#define LANES 8
#define APART __attribute__((noinline))

enum { SQUARE, ABSOLUTE, HUBER, SMOOTH_L1 };

/* What is the same for each batch. */
typedef struct {
    int64_t kind;
    double limit;      /* where a parabola goes over into a line */
    int64_t per_atom;  /* whether values are divided by the number of atoms of their graph */
    int64_t skips_nan; /* whether a label that is NaN is left out */
} Term;

/* What is of one batch; errors.py makes it of integers, and addresses are among them. */
typedef struct {
    const double *predicted, *labels;                  /* (rows, columns) */
    const int64_t *atoms_of_predicted, *atoms_of_labels; /* (rows,), where values are divided by them */
    double *differences;                               /* (rows, columns) */
    int64_t rows, columns;
} Batch;

/* What comes out for a term. */
typedef struct {
    double sum, count, missing;
} Total;

static double read_label(const Term *term, const Batch *batch, int64_t row, int64_t i) {
    return term->per_atom ? batch->labels[i] / (double)batch->atoms_of_labels[row] : batch->labels[i];
}

static APART void subtract(const Term *term, const Batch *batch) {
    for (int64_t row = 0, i = 0; row < batch->rows; row++)
        for (int64_t end = i + batch->columns; i < end; i++) {
            double predicted = batch->predicted[i];
            if (term->per_atom) predicted /= (double)batch->atoms_of_predicted[row];
            batch->differences[i] = predicted - read_label(term, batch, row, i);
        }
}

/* Takes elements without a label out of the differences, and counts them. */
static APART double leave_out_missing(const Term *term, const Batch *batch) {
    double missing = 0;
    for (int64_t row = 0, i = 0; row < batch->rows; row++)
        for (int64_t end = i + batch->columns; i < end; i++)
            if (isnan(read_label(term, batch, row, i))) {
                batch->differences[i] = 0;
                missing++;
            }
    return missing;
}

static APART void write_errors(const Term *term, int64_t n, const double *differences, double *errors) {
    const double limit = term->limit;
    switch (term->kind) {
    case SQUARE:
        for (int64_t i = 0; i < n; i++) errors[i] = differences[i] * differences[i];
        break;
    case ABSOLUTE:
        for (int64_t i = 0; i < n; i++) errors[i] = fabs(differences[i]);
        break;
    default:
        for (int64_t i = 0; i < n; i++) {
            const double size = fabs(differences[i]), clipped = size < limit ? size : limit;
            errors[i] = clipped * (size - 0.5 * clipped); /* half of a number is exact, however it is contracted */
        }
    }
}

static APART double sum_block(int64_t n, const double *x) {
    double lanes[LANES], sum = 0;
    int64_t i = 0;
    if (n >= LANES) {
        for (int lane = 0; lane < LANES; lane++) lanes[lane] = x[lane];
        for (i = LANES; i + LANES <= n; i += LANES)
            for (int lane = 0; lane < LANES; lane++) lanes[lane] += x[i + lane];
        sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    }
    for (; i < n; i++) sum += x[i];
    return sum;
}

static double sum_errors(const Term *term, int64_t n, const double *differences) {
    if (n > BLOCK) {
        const int64_t half = n / 2 - n / 2 % LANES;
        return sum_errors(term, half, differences) + sum_errors(term, n - half, differences + half);
    }
    double errors[BLOCK];
    write_errors(term, n, differences, errors);
    return sum_block(n, errors);
}

static double sum_all(const Term *term, int64_t n, const double *differences) {
    const double sum = sum_errors(term, n, differences);
    return term->kind == SMOOTH_L1 ? sum / term->limit : sum;
}

void measure_errors(int64_t terms, const Term *term, const Batch *batch, Total *total) {
    for (; terms > 0; terms--, term++, batch++, total++) {
        const int64_t n = batch->rows * batch->columns;
        subtract(term, batch);
        total->sum = sum_all(term, n, batch->differences);
        total->missing = 0;
        /* A sum that is a number has no missing label in it. */
        if (term->skips_nan && isnan(total->sum)) {
            total->missing = leave_out_missing(term, batch);
            total->sum = sum_all(term, n, batch->differences);
        }
        total->count = (double)n - total->missing;
    }
}

static double differentiate(const Term *term, double difference) {
    const double limit = term->limit;
    if (term->kind == SQUARE) return 2.0 * difference;
    if (term->kind == ABSOLUTE) return difference > 0 ? 1.0 : difference < 0 ? -1.0 : difference == 0 ? 0.0 : difference;
    const double clipped = difference > limit ? limit : difference < -limit ? -limit : difference;
    return term->kind == SMOOTH_L1 ? clipped / limit : clipped;
}

/* Gradients with respect to predictions, from those with respect to the sums; a term without a place for it has none. */
void differentiate_errors(int64_t terms, const Term *term, const Batch *batch, const Total *total, const double *factors,
                          double *const *gradients) {
    for (int64_t k = 0; k < terms; k++, term++, batch++, total++) {
        if (!gradients[k]) continue;
        for (int64_t row = 0, i = 0; row < batch->rows; row++)
            for (int64_t end = i + batch->columns; i < end; i++) {
                double gradient = differentiate(term, batch->differences[i]) * factors[k];
                /* Even if the factor is not finite. */
                if (total->missing > 0 && isnan(read_label(term, batch, row, i))) gradient = 0;
                gradients[k][i] = term->per_atom ? gradient / (double)batch->atoms_of_labels[row] : gradient;
            }
    }
}
