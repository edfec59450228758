/*
 * Geometry of the blocked matrix product. A register tile is ACAL_TILE_ROWS x ACAL_TILE_COLUMNS: on RISC-V as many
 * scalars as fit 32 registers, on the host 16-byte vectors.
 */
#ifndef ACAL_PRODUCT_H
#define ACAL_PRODUCT_H

#include "acal.h"

#if defined(__riscv)
enum { ACAL_TILE_ROWS = 4, ACAL_TILE_COLUMNS = 4 };
#else
enum { ACAL_TILE_ROWS = 4, ACAL_TILE_COLUMNS = 8 };
#endif

/* Blocks of a, b and the result that are held packed; the sum over a block of depth is added to the result at once. */
enum { ACAL_BLOCK_ROWS = 128, ACAL_BLOCK_COLUMNS = 256, ACAL_BLOCK_DEPTH = 256 };

#endif
