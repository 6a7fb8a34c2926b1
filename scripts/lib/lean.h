/* Before each C and assembler file: what describes frames to an unwinder goes where strip takes it. */
#ifdef __ASSEMBLER__
.cfi_sections .debug_frame
#elif defined(__x86_64__) || defined(__aarch64__)
/* The crypto library's products of a curve's base point by tables of 175 KiB: set aside here, made without them in lean.c.
 * With another version of it the names differ, and the tables are back. */
#define ring_core_0_17_14__p256_point_mul_base ring_core_0_17_14__p256_point_mul_base_by_table
#define ring_core_0_17_14__p256_point_mul_base_vartime ring_core_0_17_14__p256_point_mul_base_vartime_by_table
#define ring_core_0_17_14__x25519_public_from_private_generic_masked ring_core_0_17_14__x25519_public_by_table
#endif
