// Functions that the backend never calls but the bindings know: a driver has them
// all, and here they say that they are not supported. Those that other files
// define take the place of these.
#define X(name) \
	extern "C" __attribute__((weak, visibility("default"))) int name() { return 801; /* CUDA_ERROR_NOT_SUPPORTED */ }
#include "../../driver/symbols.h"
#undef X
