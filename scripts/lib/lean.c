/* Linked before the C library, into static builds: what std asks it for and what needs less than it brings.
 * Weak, so that a target whose unwinder is linked for another reason takes that one. */
#include <sys/prctl.h>

#define WEAK __attribute__((weak))

/* No code has unwind tables (force-unwind-tables=no), so there is nothing to walk: a panic says where it is and aborts. */
WEAK int _Unwind_Backtrace(void *step, void *data) { (void)step; (void)data; return 5; /* the end of the stack */ }
WEAK unsigned long _Unwind_GetIP(void *frame) { (void)frame; return 0; }
WEAK unsigned long _Unwind_GetIPInfo(void *frame, int *before) { (void)frame; *before = 0; return 0; }
WEAK unsigned long _Unwind_GetCFA(void *frame) { (void)frame; return 0; }
WEAK void *_Unwind_FindEnclosingFunction(void *at) { (void)at; return 0; }
WEAK void _Unwind_DeleteException(void *exception) { (void)exception; }
WEAK int _Unwind_RaiseException(void *exception) { (void)exception; return 9; /* nobody handles it */ }
WEAK void _Unwind_Resume(void *exception) { (void)exception; __builtin_trap(); }
WEAK unsigned long _Unwind_GetRegionStart(void *frame) { (void)frame; return 0; }
WEAK unsigned long _Unwind_GetLanguageSpecificData(void *frame) { (void)frame; return 0; }
WEAK unsigned long _Unwind_GetTextRelBase(void *frame) { (void)frame; return 0; }
WEAK unsigned long _Unwind_GetDataRelBase(void *frame) { (void)frame; return 0; }
WEAK void _Unwind_SetGR(void *frame, int index, unsigned long value) { (void)frame; (void)index; (void)value; }
WEAK void _Unwind_SetIP(void *frame, unsigned long value) { (void)frame; (void)value; }

/* std names a thread from inside it. musl's names others too, and brings all of printf for their path. */
WEAK int pthread_setname_np(void *thread, const char *name) {
  (void)thread;
  return prctl(PR_SET_NAME, (unsigned long)name, 0, 0, 0);
}

#if defined(__x86_64__) || defined(__aarch64__)
/* Products of the base points by the functions for any point: a handshake takes a tenth of a millisecond more, the binary
 * is 175 KiB smaller, and no page of a table is touched. They take constant time, as those do that they stand for. */
typedef unsigned long limbs[4];

void ring_core_0_17_14__p256_point_mul(limbs r[3], const limbs scalar, const limbs x, const limbs y);
void ring_core_0_17_14__x25519_scalar_mult_generic_masked(unsigned char out[32], const unsigned char scalar[32],
                                                          const unsigned char point[32]);

/* The generator of P-256 in the Montgomery domain (SEC 2, 2.4.2, times 2^256), lowest limb first. */
static const limbs P256_X = {0x79e730d418a9143c, 0x75ba95fc5fedb601, 0x79fb732b77622510, 0x18905f76a53755c6};
static const limbs P256_Y = {0xddf25357ce95560a, 0x8b4ab8e4ba19e45c, 0xd2e88688dd21f325, 0x8571ff1825885d85};

void ring_core_0_17_14__p256_point_mul_base(limbs r[3], const limbs scalar) {
  ring_core_0_17_14__p256_point_mul(r, scalar, P256_X, P256_Y);
}
void ring_core_0_17_14__p256_point_mul_base_vartime(limbs r[3], const limbs scalar) {
  ring_core_0_17_14__p256_point_mul(r, scalar, P256_X, P256_Y);
}
void ring_core_0_17_14__x25519_public_from_private_generic_masked(unsigned char out[32], const unsigned char key[32],
                                                                  int use_adx) {
  static const unsigned char BASE[32] = {9}; /* RFC 7748 section 4.1 */
  (void)use_adx;
  ring_core_0_17_14__x25519_scalar_mult_generic_masked(out, key, BASE);
}
#endif
