#include "plan/sweep.h"

#include <algorithm>

namespace acalsim {

SweepOperand::SweepOperand(const Operand& operand, bool is_write)
    : address(operand.address), element(operand.element), write(is_write), axes(operand.rank) {
    for (std::size_t d = 0; d < operand.rank; ++d) {
        axes[d].stride = operand.strides[d];
        axes[d].limit = operand.dims[d];
    }
}

Box SweepOperand::box(const std::uint64_t* origin, const std::uint64_t* extent) const {
    std::uint64_t at = address;
    std::uint64_t counts[Box::kMaxRank];
    std::int64_t strides[Box::kMaxRank];
    for (std::size_t d = 0; d < axes.size(); ++d) {
        const Axis& axis = axes[d];
        const std::uint64_t last = origin[d] + extent[d] - 1;
        std::uint64_t low = origin[d] * axis.scale_num / axis.scale_den;
        std::uint64_t high = axis.adaptive ? ceil_div((last + 1) * axis.scale_num, axis.scale_den)
                                           : last * axis.scale_num / axis.scale_den + axis.window;
        low = low > axis.padding ? low - axis.padding : 0;
        high = std::min(axis.limit, high > axis.padding ? high - axis.padding : 0);
        low = std::min(low, axis.limit);
        if (axis.stride == 0) {
            low = 0;
            high = 1;
        }
        at += low * static_cast<std::uint64_t>(axis.stride) * element;
        counts[d] = high > low ? high - low : 0;
        strides[d] = axis.stride;
    }
    return Box::of(at, element, axes.size(), counts, strides);
}

namespace {

/// The place in [0, size) of member n of a sequence that fills it evenly, in leaps: multiples of the golden ratio
/// modulo 1 (H. Weyl; Knuth, The Art of Computer Programming 3, 6.4).
std::uint64_t spread(std::uint64_t n, std::uint64_t size) {
    constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15;
    const std::uint64_t fraction = (n + 1) * kGolden;
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>((static_cast<Wide>(fraction) * size) >> 64);
}

}  // namespace

void SweepOperand::append_boxes(const std::uint64_t* origin, const std::uint64_t* extent,
                                std::vector<Box>& boxes) const {
    if (!table.empty()) {
        append_rows(origin, extent, boxes);
        return;
    }
    const Box whole = box(origin, extent);
    if (whole.bytes() > 0) boxes.push_back(whole);
}

void SweepOperand::append_rows(const std::uint64_t* origin, const std::uint64_t* extent,
                               std::vector<Box>& boxes) const {
    const std::size_t first = boxes.size();
    std::size_t lead = 0;  // axes that count rows: the table's own, which all come first, and the indexed ones
    for (std::size_t d = 0; d < axes.size(); ++d) lead = axes[d].indexed ? d + 1 : lead;
    std::uint64_t rest_at = address;
    std::int64_t rest_strides[Box::kMaxRank];
    for (std::size_t d = lead; d < axes.size(); ++d) {
        rest_at += origin[d] * static_cast<std::uint64_t>(axes[d].stride) * element;
        rest_strides[d - lead] = axes[d].stride;
    }
    std::uint64_t rows = 1;
    for (const Extent& e : table) rows *= e.size;
    if (rows == 0) return;
    std::vector<std::uint64_t> place(origin, origin + lead);
    while (true) {
        std::uint64_t at = rest_at, number = 0;
        for (std::size_t d = 0; d < lead; ++d) {
            number = number * axes[d].limit + place[d];
            if (!axes[d].indexed) at += place[d] * static_cast<std::uint64_t>(axes[d].stride) * element;
        }
        std::uint64_t row = spread(number, rows);
        for (std::size_t i = table.size(); i-- > 0; row /= table[i].size) {
            at += row % table[i].size * static_cast<std::uint64_t>(table[i].stride) * element;
        }
        const Box box = Box::of(at, element, axes.size() - lead, extent + lead, rest_strides);
        Box* last = boxes.size() > first ? &boxes.back() : nullptr;
        if (last && box.rank() == 0 && last->rank() == 0 && last->address() + last->run() == at) {
            *last = Box(last->address(), last->run() + box.run());
        } else if (box.bytes() > 0) {
            boxes.push_back(box);
        }
        std::size_t d = lead;
        for (; d-- > 0;) {
            if (++place[d] < origin[d] + extent[d]) break;
            place[d] = origin[d];
        }
        if (d == static_cast<std::size_t>(-1)) return;
    }
}

Bytes SweepOperand::tile_bytes(const std::vector<std::uint64_t>& tile) const {
    Bytes bytes = element;
    for (std::size_t d = 0; d < axes.size(); ++d) {
        const Axis& axis = axes[d];
        if (axis.stride == 0) continue;
        const std::uint64_t reach = axis.adaptive ? ceil_div(tile[d] * axis.scale_num, axis.scale_den) + 1
                                                  : (tile[d] - 1) * axis.scale_num / axis.scale_den + axis.window;
        bytes *= std::min(axis.limit, reach);
    }
    return bytes;
}

Sweep::Sweep(const Operand& shape)
    : dims(shape.dims, shape.dims + shape.rank),
      reduced(shape.rank, false),
      whole(shape.rank, false),
      ordered(shape.rank, false) {}

namespace {

bool plain_axis(const SweepOperand::Axis& axis) {
    return axis.window == 1 && axis.padding == 0 && !axis.adaptive && axis.scale_num == 1 && !axis.indexed;
}

}  // namespace

void Sweep::collapse() {
    const auto erase = [this](std::size_t d) {
        const auto at = static_cast<std::ptrdiff_t>(d);
        dims.erase(dims.begin() + at);
        reduced.erase(reduced.begin() + at);
        whole.erase(whole.begin() + at);
        ordered.erase(ordered.begin() + at);
        for (SweepOperand& o : operands) o.axes.erase(o.axes.begin() + at);
    };
    for (std::size_t d = dims.size(); d-- > 0;) {
        const bool plain =
            std::all_of(operands.begin(), operands.end(), [&](const SweepOperand& o) { return plain_axis(o.axes[d]); });
        if (dims[d] == 1 && plain && dims.size() > 1) erase(d);
    }
    for (std::size_t d = dims.size(); d-- > 1;) {
        const bool even = std::all_of(operands.begin(), operands.end(), [&](const SweepOperand& o) {
            const SweepOperand::Axis &outer = o.axes[d - 1], &inner = o.axes[d];
            return plain_axis(outer) && plain_axis(inner) &&
                   outer.stride == inner.stride * static_cast<std::int64_t>(dims[d]);
        });
        if (!even || reduced[d] != reduced[d - 1] || whole[d] != whole[d - 1] || ordered[d] != ordered[d - 1]) continue;
        for (SweepOperand& o : operands) {
            o.axes[d - 1].stride = o.axes[d].stride;
            o.axes[d - 1].limit = dims[d - 1] * dims[d];
        }
        dims[d - 1] *= dims[d];
        erase(d);
    }
}

Bytes Sweep::tile_bytes(const std::vector<std::uint64_t>& tile) const {
    Bytes bytes = 0;
    for (const SweepOperand& o : operands) bytes += o.tile_bytes(tile);
    return bytes;
}

Bytes Sweep::distinct_bytes(const SweepOperand& operand) const {
    Bytes bytes = operand.element;
    for (std::size_t d = 0; d < dims.size(); ++d) {
        const SweepOperand::Axis& axis = operand.axes[d];
        if (axis.stride != 0) bytes *= axis.varies() ? std::min(axis.limit, dims[d]) : axis.limit;
    }
    return bytes;
}

SweepShare::SweepShare(const Sweep& sweep, std::uint64_t core, std::uint64_t cores)
    : begin(sweep.dims.size(), 0), end(sweep.dims) {
    empty = std::any_of(end.begin(), end.end(), [](std::uint64_t d) { return d == 0; });
    if (empty || cores == 1) return;
    const std::size_t rank = sweep.dims.size();
    // The outermost dim that every core can have a part of; reduced, whole and ordered dims stay together.
    for (std::size_t d = 0; d < rank; ++d) {
        if (sweep.reduced[d] || sweep.whole[d] || sweep.ordered[d]) continue;
        if (sweep.dims[d] < cores && d + 1 < rank) continue;
        const std::uint64_t share = ceil_div(sweep.dims[d], cores);
        begin[d] = std::min(sweep.dims[d], core * share);
        end[d] = std::min(sweep.dims[d], (core + 1) * share);
        empty = begin[d] == end[d];
        return;
    }
    empty = core > 0;
}

void check_size(const Config& config, const Sweep& sweep) {
    double elements = 1, interval = 1;
    for (std::uint64_t d : sweep.dims) elements *= static_cast<double>(d);
    for (std::size_t kind = 0; kind < kVectorClasses; ++kind) {
        interval += static_cast<double>(sweep.ops.count[kind]) * static_cast<double>(config.vector.ops[kind].interval);
    }
    check_count("cycles of the vector unit, a lane each", elements * interval);
}

std::vector<std::uint64_t> key(const std::vector<Sweep>& passes) {
    std::vector<std::uint64_t> key;
    for (const Sweep& sweep : passes) {
        key.insert(key.end(), {sweep.dims.size(), sweep.operands.size(), sweep.vector, sweep.row_elements});
        key.insert(key.end(), sweep.dims.begin(), sweep.dims.end());
        key.insert(key.end(), sweep.reduced.begin(), sweep.reduced.end());
        key.insert(key.end(), sweep.whole.begin(), sweep.whole.end());
        key.insert(key.end(), sweep.ordered.begin(), sweep.ordered.end());
        key.insert(key.end(), sweep.ops.count.begin(), sweep.ops.count.end());
        key.insert(key.end(), sweep.carry.chain.begin(), sweep.carry.chain.end());
        for (const SweepOperand& o : sweep.operands) {
            key.insert(key.end(), {o.element, o.write, o.table.size()});
            for (const SweepOperand::Axis& axis : o.axes) {
                key.insert(key.end(), {static_cast<std::uint64_t>(axis.stride), axis.limit, axis.scale_num,
                                       axis.scale_den, axis.window, axis.padding, axis.adaptive, axis.indexed});
            }
            for (const SweepOperand::Extent& e : o.table) {
                key.insert(key.end(), {e.size, static_cast<std::uint64_t>(e.stride)});
            }
        }
    }
    return key;
}

}  // namespace acalsim
