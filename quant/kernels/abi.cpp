// What the library says of its structs. Alone in its file, so that a test can build it from other ones.

#include "quant/kernels/abi.h"

int quant_abi_version() { return kQuantAbiVersion; }

const char* quant_abi_struct(int index, int64_t* bytes) {
#define ZAYA_STRUCT(type) {#type, sizeof(type)},
    static constexpr AbiStruct structs[] = {QUANT_ABI_STRUCTS(ZAYA_STRUCT){nullptr, 0}};
    *bytes = structs[index].bytes;
    return structs[index].name;
}
