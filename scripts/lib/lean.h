/* Before each C and assembler file: what describes frames to an unwinder goes where strip takes it. */
#ifdef __ASSEMBLER__
.cfi_sections .debug_frame
#endif
