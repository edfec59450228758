// A strided block of memory: what one DMA transfer moves.
#pragma once

#include <array>
#include <cstddef>

#include "acalsim/types.h"

namespace acalsim {

/// `run` contiguous bytes repeated over up to six strided dimensions, innermost first; every byte is moved once.
class Box {
  public:
    static constexpr std::size_t kMaxRank = 6;
    struct Dim {
        std::uint64_t count;
        std::uint64_t stride;  // bytes
    };

    Box() = default;

    /// A dense range of bytes.
    Box(std::uint64_t address, Bytes run) : address_(address), run_(run) {}

    /// Element dims and strides in any order and sign; broadcast (stride 0) dims count once, adjacent ones are merged.
    static Box of(std::uint64_t address, Bytes element, std::size_t rank, const std::uint64_t* counts,
                  const std::int64_t* strides);

    std::uint64_t address() const { return address_; }
    Bytes run() const { return run_; }
    std::size_t rank() const { return rank_; }
    const Dim& dim(std::size_t i) const { return dims_[i]; }

    /// Number of contiguous runs.
    std::uint64_t runs() const;
    Bytes bytes() const { return runs() * run_; }

    /// Calls fn(address, bytes) for every contiguous run, in ascending order of the outer indices.
    template <typename Fn>
    void for_each_run(Fn&& fn) const {
        if (run_ == 0) return;
        std::array<std::uint64_t, kMaxRank> index{};
        std::uint64_t address = address_;
        while (true) {
            fn(address, run_);
            std::size_t d = 0;
            for (; d < rank_; ++d) {
                address += dims_[d].stride;
                if (++index[d] < dims_[d].count) break;
                address -= dims_[d].stride * dims_[d].count;
                index[d] = 0;
            }
            if (d == rank_) return;
        }
    }

  private:
    std::uint64_t address_ = 0;
    Bytes run_ = 0;
    std::size_t rank_ = 0;
    std::array<Dim, kMaxRank> dims_{};
};

}  // namespace acalsim
