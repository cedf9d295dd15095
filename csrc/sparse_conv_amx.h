// Whether this compiler knows matrix units (AMX), and whether this machine lets the process use them.
#pragma once

#include "sparse_conv.h"

#if defined(__x86_64__) && defined(__linux__) && defined(__has_include)
#if __has_include(<amxbf16intrin.h>)
#define PC3D_AMX 1
#endif
#endif
