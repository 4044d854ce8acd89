// What the library says of its structs. Alone in its file, so that a test can build it from other ones.

#include "zaya_core/kernels/abi.h"

int zaya_abi_version() { return kZayaAbiVersion; }

const char* zaya_abi_struct(int index, int64_t* bytes) {
#define ZAYA_STRUCT(type) {#type, sizeof(type)},
    static constexpr AbiStruct structs[] = {ZAYA_ABI_STRUCTS(ZAYA_STRUCT){nullptr, 0}};
    *bytes = structs[index].bytes;
    return structs[index].name;
}
