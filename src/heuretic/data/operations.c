/* Operations on images that numpy takes many passes for, in one: see operations.py, which says what they do.

   Images are uint8, planes one after the other. Arithmetic and roundings are Pillow's: float without fused
   multiply-adds (-ffp-contract=off), cut off to whole numbers. */

#include <stdint.h>
#include <string.h>

#define STRIP 1024 /* pixels of a row at a time */

static inline uint8_t cut_off(float value) {
  int whole = (int)value;
  return (uint8_t)(whole < 0 ? 0 : whole > 255 ? 255 : whole);
}

static inline int grey(int red, int green, int blue) {
  return (red * 19595 + green * 38470 + blue * 7471 + (1 << 15)) >> 16;
}

/* Blend with the smoothed image, but for the border. At least 3 x 3. */
void sharpness(const uint8_t *restrict x, uint8_t *restrict out, int64_t planes, int64_t height, int64_t width,
               float factor) {
  uint16_t sums[STRIP + 2]; /* of three pixels above each other */
  memcpy(out, x, planes * height * width);
  for (int64_t plane = 0; plane < planes; plane++) {
    for (int64_t row = 1; row < height - 1; row++) {
      for (int64_t start = 0; start < width - 2; start += STRIP) {
        const int64_t count = width - 2 - start < STRIP ? width - 2 - start : STRIP;
        const uint8_t *restrict here = x + (plane * height + row) * width + start;
        uint8_t *restrict to = out + (plane * height + row) * width + start + 1;
        for (int64_t i = 0; i < count + 2; i++)
          sums[i] = (uint16_t)((uint16_t)here[i - width] + (uint16_t)here[i] + (uint16_t)here[i + width]);
        for (int64_t i = 0; i < count; i++) {
          uint16_t middle = here[i + 1];
          uint16_t sum = (uint16_t)(sums[i] + sums[i + 1] + sums[i + 2] + 4 * middle + 6);
          int smooth = (uint16_t)(((uint32_t)sum * 5042) >> 16); /* sum / 13, for every sum there is */
          float start_value = (float)smooth;
          to[i] = cut_off(start_value + (float)((int)middle - smooth) * factor);
        }
      }
    }
  }
}

/* Blend images of three planes with their grey values. */
void color(const uint8_t *restrict x, uint8_t *restrict out, int64_t images, int64_t pixels, float factor) {
  for (int64_t image = 0; image < images; image++, x += 3 * pixels, out += 3 * pixels) {
    for (int64_t i = 0; i < pixels; i++) {
      int red = x[i], green = x[i + pixels], blue = x[i + 2 * pixels];
      float start = (float)grey(red, green, blue);
      out[i] = cut_off(start + ((float)red - start) * factor);
      out[i + pixels] = cut_off(start + ((float)green - start) * factor);
      out[i + 2 * pixels] = cut_off(start + ((float)blue - start) * factor);
    }
  }
}

/* The sum of grey values of each image of one or three planes. */
void grey_sums(const uint8_t *restrict x, int64_t *restrict sums, int64_t images, int64_t channels, int64_t pixels) {
  for (int64_t image = 0; image < images; image++, x += channels * pixels) {
    int64_t sum = 0;
    for (int64_t start = 0; start < pixels; start += 4096) { /* whose sum fits into 32 bits */
      int32_t part = 0;
      int64_t end = start + 4096 < pixels ? start + 4096 : pixels;
      if (channels == 1)
        for (int64_t i = start; i < end; i++) part += x[i];
      else
        for (int64_t i = start; i < end; i++) part += grey(x[i], x[i + pixels], x[i + 2 * pixels]);
      sum += part;
    }
    sums[image] = sum;
  }
}

/* Make the histogram of each plane as even as a table can. */
void equalize(const uint8_t *restrict x, uint8_t *restrict out, int64_t planes, int64_t pixels) {
  for (int64_t plane = 0; plane < planes; plane++, x += pixels, out += pixels) {
    uint32_t counts[4][256]; /* so that equal neighbours need not wait for each other */
    memset(counts, 0, sizeof counts);
    int64_t i = 0;
    for (; i + 4 <= pixels; i += 4)
      for (int k = 0; k < 4; k++) counts[k][x[i + k]]++;
    for (; i < pixels; i++) counts[0][x[i]]++;
    int64_t last = 0, before = 0;
    for (int value = 0; value < 256; value++) {
      counts[0][value] += counts[1][value] + counts[2][value] + counts[3][value];
      if (counts[0][value]) last = counts[0][value];
    }
    const int64_t step = (pixels - last) / 255;
    uint8_t table[256];
    for (int value = 0; value < 256; value++) {
      int64_t even = step ? (step / 2 + before) / step : value;
      table[value] = (uint8_t)(even < 255 ? even : 255);
      before += counts[0][value];
    }
    for (i = 0; i < pixels; i++) out[i] = table[x[i]];
  }
}

/* Pixels from other places of their plane, or `fill` where the place is negative. */
void warp(const uint8_t *restrict x, uint8_t *restrict out, const int32_t *restrict places, int64_t planes,
          int64_t pixels, uint8_t fill) {
  for (; planes >= 3; planes -= 3, x += 3 * pixels, out += 3 * pixels)
    for (int64_t i = 0; i < pixels; i++) {
      int32_t place = places[i];
      const uint8_t *from = x + (place < 0 ? 0 : place);
      out[i] = place < 0 ? fill : from[0];
      out[i + pixels] = place < 0 ? fill : from[pixels];
      out[i + 2 * pixels] = place < 0 ? fill : from[2 * pixels];
    }
  for (; planes > 0; planes--, x += pixels, out += pixels)
    for (int64_t i = 0; i < pixels; i++) out[i] = places[i] < 0 ? fill : x[places[i]];
}
