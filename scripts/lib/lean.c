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
