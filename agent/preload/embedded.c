// The library's bytes inside the agent, so that the agent stays one file.
__asm__(
    ".pushsection .rodata\n"
    ".global mpilaunch_loopback_nodelay_begin\n"
    ".global mpilaunch_loopback_nodelay_end\n"
    ".balign 16\n"
    "mpilaunch_loopback_nodelay_begin:\n"
    ".incbin \"" LOOPBACK_NODELAY_SO
    "\"\n"
    "mpilaunch_loopback_nodelay_end:\n"
    ".popsection\n");
