// GATHER and SCATTER: rows of a table at places that indices say, whose values the engine does not know.
#include <algorithm>
#include <stdexcept>

#include "plan/plans.h"
#include "plan/sweep.h"

namespace acalsim {

namespace {

/// Either command: rows [*batch, *j, *rest], indices [*batch, *j], a table [*batch, *indexed, *rest].
struct IndexedWork {
    Operand table, rows;
    std::vector<Operand> indices;
    std::size_t batch, places;  // places: rank of an index

    template <typename C>
    IndexedWork(const char* name, const acal_operand_t& table_, const acal_operand_t& rows_, const C& command)
        : table(table_), rows(rows_), batch(command.batch) {
        const auto fail = [name](const char* what) { throw std::invalid_argument(std::string(name) + ": " + what); };
        if (command.n_indices < 1 || command.n_indices > ACAL_MAX_INDICES) fail("number of indices exceeds the ABI");
        for (std::uint32_t i = 0; i < command.n_indices; ++i) indices.emplace_back(command.indices[i]);
        places = indices[0].rank;
        for (const Operand& index : indices) {
            if (index.rank != places) fail("indices differ in rank");
        }
        const std::size_t indexed = batch + indices.size();
        if (batch > places || indexed > table.rank || rows.rank != places + table.rank - indexed) {
            fail("ranks of table, indices and rows do not go together");
        }
    }

    std::size_t indexed_end() const { return batch + indices.size(); }

    /// Whether one stride leads through all the indexed axes.
    bool one_axis() const {
        for (std::size_t d = batch; d + 1 < indexed_end(); ++d) {
            if (table.strides[d] != table.strides[d + 1] * static_cast<std::int64_t>(table.dims[d + 1])) return false;
        }
        return true;
    }

    /// Whether the table is better taken whole than row by row: it fits on chip and is less than the bursts of rows.
    bool resident(const Config& config) const {
        if (places == batch || !one_axis()) return false;
        double row = static_cast<double>(rows.element), extent = 1, count = 1;
        for (std::size_t d = places; d < rows.rank; ++d) row *= static_cast<double>(rows.dims[d]);
        for (std::size_t d = batch; d < indexed_end(); ++d) extent *= static_cast<double>(table.dims[d]);
        for (std::size_t d = batch; d < places; ++d) count *= static_cast<double>(rows.dims[d]);
        const double whole = extent * row;
        return whole <= static_cast<double>(config.scratchpad.size) / 4 &&
               whole <= count * std::max(row, static_cast<double>(config.dma.burst));
    }

    /// The table over the rows' dims.
    SweepOperand over(bool write, bool resident) const {
        SweepOperand operand(rows, write);
        operand.address = table.address;
        for (std::size_t d = 0; d < rows.rank; ++d) {
            SweepOperand::Axis& axis = operand.axes[d];
            if (d < batch || d >= places) {
                axis.stride = table.strides[d < batch ? d : d - places + indexed_end()];
            } else if (!resident) {
                axis.stride = 1;
                axis.indexed = true;
            } else if (d > batch) {
                axis.stride = 0;
            } else {
                std::uint64_t extent = 1;
                for (std::size_t i = batch; i < indexed_end(); ++i) extent *= table.dims[i];
                axis.stride = table.strides[indexed_end() - 1];
                axis.scale_num = 0;
                axis.window = axis.limit = extent;
            }
        }
        if (!resident) {
            for (std::size_t d = batch; d < indexed_end(); ++d) {
                operand.table.push_back({table.dims[d], table.strides[d]});
            }
        }
        return operand;
    }

    /// A pass over the rows that reads the indices.
    Sweep sweep() const {
        Sweep sweep{rows};
        for (const Operand& index : indices) {
            SweepOperand operand(rows, false);
            operand.address = index.address;
            operand.element = index.element;
            for (std::size_t d = 0; d < rows.rank; ++d) operand.axes[d].stride = d < places ? index.strides[d] : 0;
            sweep.operands.push_back(operand);
        }
        return sweep;
    }
};

}  // namespace

CommandWork work_of(const Config& config, const acal_gather_t& command) {
    const IndexedWork work("GATHER", command.x, command.out, command);
    const bool resident = work.resident(config);
    Sweep sweep = work.sweep();
    sweep.operands.push_back(work.over(false, resident));
    sweep.operands.emplace_back(work.rows, true);
    sweep.vector = resident;  // rows go to their places by DMA alone
    sweep.ops.add(VectorClass::kArithmetic);
    return CommandWork::over({std::move(sweep)});
}

CommandWork work_of(const Config& config, const acal_scatter_t& command) {
    const IndexedWork work("SCATTER", command.out, command.x, command);
    const bool resident = work.resident(config), reduces = command.op != ACAL_SCATTEROP_SET;
    Sweep sweep = work.sweep();
    sweep.operands.emplace_back(work.rows, false);
    if (resident || reduces) sweep.operands.push_back(work.over(false, resident));
    sweep.operands.push_back(work.over(true, resident));
    for (std::size_t d = work.batch; d < work.places; ++d) sweep.reduced[d] = resident;
    sweep.vector = resident || reduces;
    sweep.ops.add(VectorClass::kArithmetic);
    return CommandWork::over({std::move(sweep)});
}

}  // namespace acalsim
