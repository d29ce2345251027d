/* The codec's kernels in float32 throughout. */

#define WIDE 1
#include "codec.c"
