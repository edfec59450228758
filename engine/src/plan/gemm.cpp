// GEMM: out[*batch, M, N] = activation(alpha * a[*batch, M, K] @ b[*batch, K, N] + beta * bias).
#include <algorithm>
#include <stdexcept>

#include "plan/contraction.h"
#include "plan/plans.h"

namespace acalsim {

VectorOps activation_ops(std::uint32_t activation) {
    if (activation == ACAL_ACTIVATION_NONE) return {};
    return {{activation == ACAL_ACTIVATION_RELU ? VectorClass::kArithmetic : VectorClass::kTranscendental, 1}};
}

Bytes accumulator_bytes(Bytes element) { return element == 8 ? 8 : 4; }

namespace {

class GemmContraction final : public Contraction {
  public:
    explicit GemmContraction(const acal_gemm_t& command)
        : a_(command.a), b_(command.b), out_(command.out), bias_(command.bias) {
        const std::size_t rank = out_.rank;
        if (rank < 2 || a_.rank != rank || b_.rank != rank || (bias_.present && bias_.rank != rank)) {
            throw std::invalid_argument("GEMM: operands differ in rank or have less than 2 dims");
        }
        rows = out_.dims[rank - 2];
        cols = out_.dims[rank - 1];
        depth = a_.dims[rank - 1];
        if (a_.dims[rank - 2] != rows || b_.dims[rank - 2] != depth || b_.dims[rank - 1] != cols) {
            throw std::invalid_argument("GEMM: a [M, K], b [K, N] and out [M, N] do not fit together");
        }
        for (std::size_t d = 0; d + 2 < rank; ++d) batches *= out_.dims[d];
        merge_batch_into_rows();
        dtype = a_.dtype;
        a_element = a_.element;
        b_element = b_.element;
        accumulator_element = accumulator_bytes(a_.element);
        post = activation_ops(command.activation);
        if (command.alpha != 1.0F) post.add(VectorClass::kArithmetic);
        has_bias = bias_.present;
        if (has_bias) {
            post.add(VectorClass::kArithmetic, command.beta == 1.0F ? 1 : 2);
            bias_per_row = bias_.strides[bias_.rank - 2] != 0 && rows > 1;
        }
    }

    MatrixShape matrix(std::uint64_t r, std::uint64_t n, std::uint64_t k) const override { return {r, n, k}; }
    Box a(std::uint64_t batch, Range row, Range k, bool) const override { return block(a_, batch, row, k); }
    Box b(std::uint64_t batch, Range k, Range col) const override { return block(b_, batch, k, col); }
    Box out(std::uint64_t batch, Range row, Range col) const override { return block(out_, batch, row, col); }
    Box bias(std::uint64_t batch, Range row, Range col) const override { return block(bias_, batch, row, col); }
    bool same_a(std::uint64_t batch) const override { return offset(a_, batch) == offset(a_, batch - 1); }
    bool same_b(std::uint64_t batch) const override { return offset(b_, batch) == offset(b_, batch - 1); }

    std::vector<std::uint64_t> key() const override {
        std::vector<std::uint64_t> key{ACAL_OPCODE_GEMM, batches, rows, cols, depth};
        key.insert(key.end(), post.count.begin(), post.count.end());
        for (const Operand* o : {&a_, &b_, &out_, &bias_}) {
            key.push_back(o->present ? o->element : 0);
            for (std::size_t d = 0; d < o->rank; ++d) key.push_back(static_cast<std::uint64_t>(o->strides[d]));
        }
        return key;
    }

  private:
    /// Rows of all batches form one matrix when b is the same for each and a and out continue from batch to batch.
    void merge_batch_into_rows() {
        const std::size_t rank = out_.rank;
        if (batches == 1) return;
        std::int64_t rows_before = static_cast<std::int64_t>(rows);
        for (std::size_t d = rank - 2; d-- > 0;) {
            if (out_.dims[d] == 1) continue;
            const bool steps_on = b_.strides[d] == 0 && a_.strides[d] == a_.strides[rank - 2] * rows_before &&
                                  out_.strides[d] == out_.strides[rank - 2] * rows_before &&
                                  (!bias_.present || bias_.strides[d] == bias_.strides[rank - 2] * rows_before);
            if (!steps_on) return;
            rows_before *= static_cast<std::int64_t>(out_.dims[d]);
        }
        rows = static_cast<std::uint64_t>(rows_before);
        batches = 1;
    }

    static std::uint64_t offset(const Operand& o, std::uint64_t batch) {
        std::uint64_t at = o.address;
        for (std::size_t d = o.rank - 2; d-- > 0;) {
            at += batch % o.dims[d] * static_cast<std::uint64_t>(o.strides[d]) * o.element;
            batch /= o.dims[d];
        }
        return at;
    }

    Box block(const Operand& o, std::uint64_t batch, Range row, Range col) const {
        const std::int64_t* strides = o.strides + o.rank - 2;
        const std::uint64_t counts[] = {row.size(), col.size()};
        const std::uint64_t at =
            (batches == 1 ? o.address : offset(o, batch)) +
            (row.begin * static_cast<std::uint64_t>(strides[0]) + col.begin * static_cast<std::uint64_t>(strides[1])) *
                o.element;
        return Box::of(at, o.element, 2, counts, strides);
    }

    Operand a_, b_, out_, bias_;
};

}  // namespace

CommandWork work_of(const Config&, const acal_gemm_t& command) {
    return CommandWork::product(std::make_shared<GemmContraction>(command));
}

}  // namespace acalsim
