// weights.h is how read-only weights (rows, cols) lie in the device's memory.
//
// Rows are pitch numbers apart, a multiple of 32 in format Q8 and of 16 in the
// others; what is left over is zero. A Q8 weight is a byte, its number plus 128,
// times the scale of its block of 32; scales stand apart in rows of their own.
// The 16 bytes of a group are in the order in which ldmatrix hands them to the
// lanes of an mma: byte 4i+j is number 2i+j of the group for j < 2, else 2i+6+j.
#pragma once
#include "kernel.h"

enum Format { F32_WEIGHTS, BF16_WEIGHTS, Q8_WEIGHTS };

// scale_pitch is how far apart rows of scales are, 16 bytes being the unit.
DEVICE int scale_pitch(int pitch) { return (pitch / 32 + 7) / 8 * 8; }

// group_byte is where number i of a group of 16 has its byte, group_number the
// inverse.
DEVICE int group_byte(int i) { return i < 8 ? i / 2 * 4 + i % 2 : (i - 8) / 2 * 4 + 2 + i % 2; }
DEVICE int group_number(int byte) { return byte / 4 * 2 + byte % 2 + byte % 4 / 2 * 8; }

// q8_number is byte i of a word as the number it stands for: 32768 + byte is a
// float32 whose digits hold the byte, and prmt puts it there in one instruction.
DEVICE float q8_number(unsigned word, int i) {
	unsigned u;
#ifdef NRT_EMULATOR
	u = 0x47000000u | (word >> 8 * i & 0xffu) << 8;
#else
	asm("prmt.b32 %0, %1, %2, %3;" : "=r"(u) : "r"(word), "r"(0x47000000u), "r"(0x7404u | i << 4));
#endif
	return bits_float(u) - 32896.0f;
}

// weight is the number at row and col.
DEVICE float weight(const void* data, const bf16* scales, int format, int pitch, int row, int col) {
	long long at = (long long)row * pitch;
	if (format == F32_WEIGHTS) return static_cast<const float*>(data)[at + col];
	if (format == BF16_WEIGHTS) return to_float(static_cast<const bf16*>(data)[at + col]);
	float scale = to_float(scales[(long long)row * scale_pitch(pitch) + col / 32]);
	int number = static_cast<const unsigned char*>(data)[at + col / 16 * 16 + group_byte(col % 16)];
	return scale * float(number - 128);
}
