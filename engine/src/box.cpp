#include "acalsim/box.h"

namespace acalsim {

Box Box::of(std::uint64_t address, Bytes element, std::size_t rank, const std::uint64_t* counts,
            const std::int64_t* strides) {
    Box box(address, element);
    for (std::size_t d = 0; d < rank; ++d) {
        if (counts[d] == 0) return Box(address, 0);
        if (counts[d] == 1 || strides[d] == 0) continue;
        const std::int64_t bytes = strides[d] * static_cast<std::int64_t>(element);
        if (bytes < 0) box.address_ -= static_cast<std::uint64_t>(-bytes) * (counts[d] - 1);
        // Sorted by stride while inserting: there are at most six.
        const Dim dim{counts[d], static_cast<std::uint64_t>(bytes < 0 ? -bytes : bytes)};
        std::size_t at = box.rank_++;
        for (; at > 0 && box.dims_[at - 1].stride > dim.stride; --at) box.dims_[at] = box.dims_[at - 1];
        box.dims_[at] = dim;
    }
    std::size_t kept = 0;
    for (std::size_t d = 0; d < box.rank_; ++d) {
        const Dim dim = box.dims_[d];
        if (kept == 0 && dim.stride == box.run_) {
            box.run_ *= dim.count;
        } else if (kept > 0 && dim.stride == box.dims_[kept - 1].stride * box.dims_[kept - 1].count) {
            box.dims_[kept - 1].count *= dim.count;
        } else {
            box.dims_[kept++] = dim;
        }
    }
    box.rank_ = kept;
    return box;
}

std::uint64_t Box::runs() const {
    if (run_ == 0) return 0;
    std::uint64_t n = 1;
    for (std::size_t d = 0; d < rank_; ++d) n *= dims_[d].count;
    return n;
}

}  // namespace acalsim
