#pragma once
/*
 * The Internet checksum (RFC 1071, RFC 1624), over bytes in network order.
 */
#include <arpa/inet.h>
#include <stddef.h>
#include <stdint.h>

/** Add @p size bytes to a running sum. Only the last piece of a sum may have an odd size. */
static inline uint32_t checksum_add(const void *data, size_t size, uint32_t sum)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i + 1 < size; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	if (size & 1)
		sum += (uint32_t)bytes[size - 1] << 8;
	return sum;
}

/** @return the checksum as it stands in a header */
static inline uint16_t checksum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static inline uint16_t checksum_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/** A 16-bit word that the checksum at @p sum covers changes (both in host order). */
static inline void checksum_mend(uint8_t *sum, uint16_t before, uint16_t after)
{
	uint32_t value = (uint32_t)(uint16_t)~checksum_get16(sum) + (uint16_t)~before + after;

	value = (value & 0xffff) + (value >> 16);
	value = ~(value + (value >> 16)) & 0xffff;
	sum[0] = (uint8_t)(value >> 8);
	sum[1] = (uint8_t)value;
}
