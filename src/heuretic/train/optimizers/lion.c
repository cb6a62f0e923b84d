/* One step of Lion for many tensors: each number is read and written once.

   The arithmetic, its order and its roundings are those of `lion_update.py`: fused multiply-adds are written out and
   the compiler may not make others (-ffp-contract=off). Numbers narrower than the arithmetic are widened when read and
   rounded to nearest, ties to even, when written. */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if !defined(__FMA__) && !defined(__aarch64__) && !defined(FP_FAST_FMAF)
#error "needs a processor with fused multiply-add"
#endif

#define BLOCK 256 /* weights that share a scale in 8-bit momentum, see blockwise.py */
#define TILE 1024 /* weights widened at a time; a multiple of BLOCK */

typedef struct {
  double step, decay, weight1, weight2;
} Settings;

static inline float widened(uint16_t half) { /* bfloat16 to float */
  uint32_t bits = (uint32_t)half << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static inline uint16_t narrowed(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (uint16_t)rounded;
}

#define KEPT(x) (x)
#define UPDATE(NAME, REAL, FMA, WEIGHT, READ_P, WRITE_P, MOMENTUM, READ_M, WRITE_M)                                    \
  static void NAME(WEIGHT *restrict p, const WEIGHT *restrict g, MOMENTUM *restrict m, int64_t n, const Settings *s) { \
    const REAL step = (REAL)s->step, decay = (REAL)s->decay, w1 = (REAL)s->weight1, w2 = (REAL)s->weight2;             \
    for (int64_t i = 0; i < n; i++) {                                                                                  \
      REAL weight = READ_P(p[i]), momentum = READ_M(m[i]), change = READ_P(g[i]) - momentum;                           \
      REAL direction = FMA(w1, change, momentum);                                                                      \
      REAL sign = (REAL)((direction > 0) - (direction < 0));                                                           \
      m[i] = WRITE_M(FMA(w2, change, momentum));                                                                       \
      p[i] = WRITE_P(FMA(FMA(weight, decay, sign), step, weight));                                                     \
    }                                                                                                                  \
  }

UPDATE(update_double, double, fma, double, KEPT, KEPT, double, KEPT, KEPT)
UPDATE(update_float, float, fmaf, float, KEPT, KEPT, float, KEPT, KEPT)
UPDATE(update_float_bfloat, float, fmaf, float, KEPT, KEPT, uint16_t, widened, narrowed)
UPDATE(update_bfloat, float, fmaf, uint16_t, widened, narrowed, uint16_t, widened, narrowed)
UPDATE(update_bfloat_float, float, fmaf, uint16_t, widened, narrowed, float, KEPT, KEPT)

static void restore(const int8_t *restrict codes, const float *restrict scales, float *restrict m, int64_t n) {
  for (int64_t start = 0; start < n; start += BLOCK) {
    const float scale = scales[start / BLOCK];
    for (int64_t i = start; i < n && i < start + BLOCK; i++) {
      float code = (float)codes[i];
      m[i] = code * fabsf(code) * scale;
    }
  }
}

static void quantize(const float *restrict m, int8_t *restrict codes, float *restrict scales, int64_t n) {
  for (int64_t start = 0; start < n; start += BLOCK) {
    const int64_t end = n < start + BLOCK ? n : start + BLOCK;
    uint32_t largest = 0; /* bits of positive floats are ordered as the floats are, with NaN above all */
    for (int64_t i = start; i < end; i++) {
      uint32_t bits;
      memcpy(&bits, &m[i], 4);
      bits &= 0x7fffffff;
      largest = bits > largest ? bits : largest;
    }
    float scale;
    memcpy(&scale, &largest, 4);
    scale /= 16129.0f;
    scale = scale < FLT_MIN ? FLT_MIN : scale;
    const float inverse = 1.0f / scale;
    for (int64_t i = start; i < end; i++) {
      codes[i] = (int8_t)(int32_t)copysignf(rintf(sqrtf(fabsf(m[i]) * inverse)), m[i]);
    }
    scales[start / BLOCK] = scale;
  }
}

#define UPDATE_CODES(NAME, WEIGHT, UPDATE_WIDE)                                                                        \
  static void NAME(WEIGHT *p, const WEIGHT *g, int8_t *codes, float *scales, int64_t n, const Settings *s) {           \
    float m[TILE];                                                                                                     \
    for (int64_t i = 0; i < n; i += TILE) {                                                                            \
      const int64_t count = n - i < TILE ? n - i : TILE;                                                               \
      restore(codes + i, scales + i / BLOCK, m, count);                                                                \
      UPDATE_WIDE(p + i, g + i, m, count, s);                                                                          \
      quantize(m, codes + i, scales + i / BLOCK, count);                                                               \
    }                                                                                                                  \
  }

UPDATE_CODES(update_float_codes, float, update_float)
UPDATE_CODES(update_bfloat_codes, uint16_t, update_bfloat_float)

/* Update what lies from `begin` to `end` if all tensors are counted through.

   Ends inside a tensor are moved up to a multiple of BLOCK within it, so that neighbouring ranges meet.
   kind: which of the functions above, in the order of `lion_kernel.KINDS`. scales: of 8-bit momentum, else not read. */
void lion(int64_t tensors, void *const *p, void *const *g, void *const *m, void *const *scales, const int64_t *sizes,
          int64_t begin, int64_t end, int64_t kind, double step, double decay, double weight1, double weight2) {
  const Settings settings = {step, decay, weight1, weight2};
  int64_t offset = 0;
  for (int64_t t = 0; t < tensors && offset < end; offset += sizes[t++]) {
    const int64_t n = sizes[t];
    int64_t from = begin <= offset ? 0 : (begin - offset + BLOCK - 1) / BLOCK * BLOCK;
    int64_t to = end >= offset + n ? n : (end - offset + BLOCK - 1) / BLOCK * BLOCK;
    to = to < n ? to : n;
    if (from >= to) continue;
#define AT(pointers, type) ((type *)pointers[t] + from)
    switch (kind) {
      case 0: update_float(AT(p, float), AT(g, float), AT(m, float), to - from, &settings); break;
      case 1: update_float_bfloat(AT(p, float), AT(g, float), AT(m, uint16_t), to - from, &settings); break;
      case 2: update_bfloat(AT(p, uint16_t), AT(g, uint16_t), AT(m, uint16_t), to - from, &settings); break;
      case 3: update_bfloat_float(AT(p, uint16_t), AT(g, uint16_t), AT(m, float), to - from, &settings); break;
      case 4: update_double(AT(p, double), AT(g, double), AT(m, double), to - from, &settings); break;
      case 5: update_float_codes(AT(p, float), AT(g, float), AT(m, int8_t), (float *)scales[t] + from / BLOCK, to - from, &settings); break;
      case 6: update_bfloat_codes(AT(p, uint16_t), AT(g, uint16_t), AT(m, int8_t), (float *)scales[t] + from / BLOCK, to - from, &settings); break;
    }
  }
}
