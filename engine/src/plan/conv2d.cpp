// CONV2D as an implicit matrix product: rows are output positions, columns output channels, depth C/groups * R * S.
#include <algorithm>
#include <stdexcept>

#include "plan/contraction.h"
#include "plan/plans.h"

namespace acalsim {

VectorOps activation_ops(std::uint32_t activation);
Bytes accumulator_bytes(Bytes element);

namespace {

/// A tiling row is one output row, or a block of one when a whole output row does not fit the accumulator; a batch is
/// one group of one image. im2col happens on the way into the array: the input is fetched as it lies in memory.
class Conv2dContraction final : public Contraction {
  public:
    Conv2dContraction(const Config& config, const acal_conv2d_t& command)
        : x_(command.x), weight_(command.weight), out_(command.out), bias_(command.bias) {
        if (x_.rank != 4 || weight_.rank != 4 || out_.rank != 4 || (bias_.present && bias_.rank != 1)) {
            throw std::invalid_argument("CONV2D: x, weight and out need rank 4, bias rank 1");
        }
        if (command.groups < 1) throw std::invalid_argument("CONV2D: groups is less than 1");
        for (std::size_t i = 0; i < 2; ++i) {
            if (command.stride[i] < 1 || command.dilation[i] < 1 || command.padding[i] < 0) {
                throw std::invalid_argument("CONV2D: stride, dilation or padding out of range");
            }
            stride_[i] = static_cast<std::uint64_t>(command.stride[i]);
            padding_[i] = static_cast<std::uint64_t>(command.padding[i]);
            dilation_[i] = static_cast<std::uint64_t>(command.dilation[i]);
        }
        groups_ = static_cast<std::uint64_t>(command.groups);
        channels_ = weight_.dims[1];
        kernel_ = weight_.dims[2] * weight_.dims[3];
        if (weight_.dims[0] % groups_ != 0 || x_.dims[1] != channels_ * groups_ || out_.dims[1] != weight_.dims[0] ||
            out_.dims[0] != x_.dims[0]) {
            throw std::invalid_argument("CONV2D: channels of x, weight, out and groups do not fit together");
        }
        batches = out_.dims[0] * groups_;
        cols = weight_.dims[0] / groups_;
        depth = channels_;
        dtype = x_.dtype;
        a_element = x_.element;
        b_element = weight_.element;
        accumulator_element = accumulator_bytes(x_.element);
        const std::uint64_t width = out_.dims[3];
        const std::uint64_t narrow = std::min(cols, config.array.cols);
        const std::uint64_t fits =
            config.scratchpad.accumulator / 2 / (accumulator_element * std::max<std::uint64_t>(1, narrow));
        const std::uint64_t blocks =
            width == 0 ? 1 : ceil_div(width, std::max<std::uint64_t>(1, std::min(width, fits)));
        block_ = width == 0 ? 0 : ceil_div(width, blocks);
        blocks_ = block_ == 0 ? 1 : ceil_div(width, block_);
        rows = out_.dims[2] * blocks_;
        if (blocks_ > 1) max_tile_rows = 1;
        post = activation_ops(command.activation);
        has_bias = bias_.present;
        if (has_bias) post.add(VectorClass::kArithmetic);
    }

    MatrixShape matrix(std::uint64_t r, std::uint64_t n, std::uint64_t k) const override {
        const std::uint64_t width = out_.dims[3];
        const std::uint64_t positions = blocks_ == 1 ? r * width : r / blocks_ * width + r % blocks_ * block_;
        return {positions, n, k * kernel_};
    }

    Box a(std::uint64_t batch, Range row, Range k, bool resident) const override {
        const std::uint64_t image = batch / groups_, group = batch % groups_;
        const Range p{row.begin / blocks_, (row.end - 1) / blocks_ + 1};
        Range height = window(p, 0), width{0, x_.dims[3]};
        if (blocks_ > 1 && row.size() == 1) {
            const std::uint64_t q = row.begin % blocks_ * block_;
            width = window({q, std::min(out_.dims[3], q + block_)}, 1);
        } else {
            width = window({0, out_.dims[3]}, 1);
            if (resident && p.begin > 0)
                height.begin = std::min(height.end, std::max(height.begin, window({p.begin - 1, p.begin}, 0).end));
        }
        std::uint64_t strided = 1;  // rows between those that a strided 1-row window reads
        if (weight_.dims[2] == 1 && height.size() > 0) strided = stride_[0];
        const std::uint64_t origin[] = {image, group * channels_ + k.begin, height.begin, width.begin};
        const std::uint64_t extent[] = {1, k.size(), ceil_div(height.size(), strided), width.size()};
        std::uint64_t at = x_.address;
        for (std::size_t d = 0; d < 4; ++d) at += origin[d] * static_cast<std::uint64_t>(x_.strides[d]) * x_.element;
        const std::int64_t strides[] = {x_.strides[0], x_.strides[1],
                                        x_.strides[2] * static_cast<std::int64_t>(strided), x_.strides[3]};
        return Box::of(at, x_.element, 4, extent, strides);
    }

    Box b(std::uint64_t batch, Range k, Range col) const override {
        const std::uint64_t group = batch % groups_;
        const std::uint64_t origin[] = {group * cols + col.begin, k.begin, 0, 0};
        const std::uint64_t extent[] = {col.size(), k.size(), weight_.dims[2], weight_.dims[3]};
        return weight_.box(origin, extent);
    }

    Box out(std::uint64_t batch, Range row, Range col) const override {
        const std::uint64_t image = batch / groups_, group = batch % groups_;
        std::uint64_t origin[] = {image, group * cols + col.begin, row.begin / blocks_, 0};
        std::uint64_t extent[] = {1, col.size(), (row.end - 1) / blocks_ + 1 - origin[2], out_.dims[3]};
        if (blocks_ > 1 && row.size() == 1) {
            origin[3] = row.begin % blocks_ * block_;
            extent[3] = std::min(out_.dims[3] - origin[3], block_);
        }
        return out_.box(origin, extent);
    }

    Box bias(std::uint64_t batch, Range, Range col) const override {
        const std::uint64_t origin[] = {batch % groups_ * cols + col.begin};
        const std::uint64_t extent[] = {col.size()};
        return bias_.box(origin, extent);
    }

    bool same_a(std::uint64_t) const override { return false; }
    bool same_b(std::uint64_t) const override { return groups_ == 1; }

    std::vector<std::uint64_t> key() const override {
        std::vector<std::uint64_t> key{ACAL_OPCODE_CONV2D, groups_,     stride_[0],   stride_[1],
                                       padding_[0],        padding_[1], dilation_[0], dilation_[1]};
        key.insert(key.end(), post.count.begin(), post.count.end());
        for (const Operand* o : {&x_, &weight_, &out_, &bias_}) {
            key.push_back(o->present ? o->element : 0);
            key.insert(key.end(), o->dims, o->dims + o->rank);
            for (std::size_t d = 0; d < o->rank; ++d) key.push_back(static_cast<std::uint64_t>(o->strides[d]));
        }
        return key;
    }

  private:
    /// Input rows (axis 0) or columns (axis 1) under the windows of a range of outputs, clipped to the input.
    Range window(Range outputs, std::size_t axis) const {
        const std::uint64_t taps = weight_.dims[2 + axis], size = x_.dims[2 + axis];
        if (outputs.size() == 0) return {0, 0};
        const std::uint64_t reach = (taps - 1) * dilation_[axis] + 1;
        std::uint64_t low = outputs.begin * stride_[axis];
        std::uint64_t high = (outputs.end - 1) * stride_[axis] + reach;
        low = low > padding_[axis] ? low - padding_[axis] : 0;
        high = high > padding_[axis] ? high - padding_[axis] : 0;
        return {std::min(low, size), std::min(high, size)};
    }

    Operand x_, weight_, out_, bias_;
    std::uint64_t stride_[2] = {}, padding_[2] = {}, dilation_[2] = {};
    std::uint64_t groups_ = 1, channels_ = 0, kernel_ = 0;
    std::uint64_t block_ = 0, blocks_ = 1;  // columns of one tiling row, and how many make an output row
};

}  // namespace

CommandWork work_of(const Config& config, const acal_conv2d_t& command) {
    return CommandWork::product(std::make_shared<Conv2dContraction>(config, command));
}

}  // namespace acalsim
