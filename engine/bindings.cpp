// The Python module acalsim_backend._engine. Nothing else here knows Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <chrono>
#include <stdexcept>

#include "acalsim/engine.h"

namespace nb = nanobind;
using namespace acalsim;

namespace {

std::uint64_t number(const nb::dict& d, const char* key) {
    if (!d.contains(key))
        throw std::invalid_argument(std::string("engine configuration: key '") + key + "' is missing");
    return nb::cast<std::uint64_t>(d[key]);
}

std::string text(const nb::dict& d, const char* key) {
    if (!d.contains(key))
        throw std::invalid_argument(std::string("engine configuration: key '") + key + "' is missing");
    return nb::cast<std::string>(d[key]);
}

std::vector<Dataflow> dataflows(const std::string& name) {
    constexpr Dataflow kAll[] = {Dataflow::kWeightStationary, Dataflow::kOutputStationary, Dataflow::kInputStationary};
    if (name == "any") return {std::begin(kAll), std::end(kAll)};
    for (Dataflow dataflow : kAll) {
        if (name == kDataflowNames[static_cast<std::size_t>(dataflow)]) return {dataflow};
    }
    throw std::invalid_argument("engine configuration: dataflow '" + name + "', expected ws, os, is or any");
}

Config make_config(const nb::dict& d) {
    Config c;
    c.cores = number(d, "cores");
    c.launch = number(d, "launch_cycles");
    c.array.count = number(d, "array.count");
    c.array.rows = number(d, "array.rows");
    c.array.cols = number(d, "array.cols");
    c.array.dataflows = dataflows(text(d, "array.dataflow"));
    c.array.double_buffered = number(d, "array.double_buffered") != 0;
    c.vector.lanes = number(d, "vector.lanes");
    constexpr const char* kClasses[] = {"arithmetic", "divide", "root", "exponential", "transcendental"};
    for (std::size_t i = 0; i < kVectorClasses; ++i) {
        const std::string key = std::string("vector.") + kClasses[i];
        c.vector.ops[i] = {number(d, (key + "_cycles").c_str()), number(d, (key + "_latency_cycles").c_str())};
    }
    c.vector.fused_rows = number(d, "vector.fused_rows") != 0;
    c.scratchpad.size = number(d, "scratchpad.bytes");
    c.scratchpad.accumulator = number(d, "scratchpad.accumulator_bytes");
    c.scratchpad.banks = number(d, "scratchpad.banks");
    c.scratchpad.bank_bytes = number(d, "scratchpad.bank_bytes");
    c.dma.channels = number(d, "dma.channels");
    c.dma.outstanding = number(d, "dma.outstanding");
    c.dma.burst = number(d, "dma.burst_bytes");
    c.memory.preset = text(d, "memory.preset");
    c.frequency_mhz = number(d, "frequency_mhz");
    c.memory.channels = number(d, "memory.channels");
    c.memory.interleave = number(d, "memory.interleave_bytes");
    c.memory.refresh = text(d, "memory.refresh");
    c.memory.closed_page = number(d, "memory.closed_page") != 0;
    c.memory.fast_path = number(d, "memory.fast_path") != 0;
    c.memory.latency = number(d, "memory.latency_cycles");
    c.memory.bytes_per_cycle = {number(d, "memory.bytes_per_cycle.num"), number(d, "memory.bytes_per_cycle.den")};
    c.interconnect.bytes_per_cycle = {number(d, "interconnect.bytes_per_cycle.num"),
                                      number(d, "interconnect.bytes_per_cycle.den")};
    c.interconnect.latency = number(d, "interconnect.latency_cycles");
    return c;
}

// The fields of a Completion that are plain numbers.
// clang-format off
#define ACALSIM_COMPLETION_NUMBERS(X) \
    X(id) X(start) X(end) X(array_cycles) X(array_busy) X(vector_busy) X(bytes_read) X(bytes_written) X(macs) \
    X(vector_ops) X(mac_dtype) X(scratchpad_bytes) X(accumulator_bytes) X(bursts) X(row_hits) X(bank_conflict_cycles)
// clang-format on

nb::dict stall(const Completion& c) {
    nb::dict causes;
    for (std::size_t i = 0; i < kCauses; ++i) causes[kCauseNames[i]] = c.causes[i];
    return causes;
}

nb::dict to_dict(const Completion& c) {
    nb::dict values;
#define ACALSIM_ITEM(name) values[#name] = c.name;
    ACALSIM_COMPLETION_NUMBERS(ACALSIM_ITEM)
#undef ACALSIM_ITEM
    values["dataflow"] = c.dataflow;
    values["stall"] = stall(c);
    return values;
}

Completion make_completion(const nb::dict& values) {
    Completion c;
    for (auto [key, value] : values) {
        const auto name = nb::cast<std::string>(key);
        if (name == "dataflow") {
            const auto wanted = nb::cast<std::string>(value);
            for (const char* known : kDataflowNames) {
                if (wanted == known) c.dataflow = known;
            }
            if (wanted != c.dataflow) throw nb::value_error(("unknown dataflow '" + wanted + "'").c_str());
        } else if (name == "stall") {
            const auto given = nb::cast<nb::dict>(value);
            for (std::size_t i = 0; i < kCauses; ++i) {
                if (given.contains(kCauseNames[i])) c.causes[i] = nb::cast<Cycle>(given[kCauseNames[i]]);
            }
        }
#define ACALSIM_FIELD(field) else if (name == #field) c.field = nb::cast<decltype(c.field)>(value);
        ACALSIM_COMPLETION_NUMBERS(ACALSIM_FIELD)
#undef ACALSIM_FIELD
        else throw nb::key_error(("unknown field '" + name + "' of a Completion").c_str());
    }
    return c;
}

/// An Engine for Python. Each call releases the interpreter's lock while the engine works, and takes it back every
/// moment for Ctrl-C and whoever wants to hear of progress. A call while another one is at work, from a second thread
/// or from a progress callback, raises.
class PyEngine {
  public:
    explicit PyEngine(const Config& config) : engine_(config) {
        engine_.set_poll([this] { poll(); });
    }

    /// What `work` returns; `progress` is a callable or None.
    template <typename Work>
    auto use(Work&& work, const nb::object& progress = nb::none()) {
        if (busy_.test_and_set(std::memory_order_acquire)) {
            throw std::runtime_error(
                "this Engine is at work in another call; give each thread an Engine of its own, or let them take "
                "turns");
        }
        const Busy busy{busy_};
        progress_ = progress.ptr();
        polled_ = std::chrono::steady_clock::now();
        const nb::gil_scoped_release released;
        return work(engine_);
    }

  private:
    struct Busy {
        std::atomic_flag& flag;
        ~Busy() { flag.clear(std::memory_order_release); }
    };
    static constexpr std::chrono::milliseconds kInterval{50};

    void poll() {
        if (std::chrono::steady_clock::now() - polled_ < kInterval) return;
        {
            const nb::gil_scoped_acquire acquired;
            if (PyErr_CheckSignals() != 0) throw nb::python_error();
            if (progress_ != Py_None) {
                const Progress progress = engine_.progress();
                nb::borrow(progress_)(progress.fraction, progress.cycles);
            }
        }
        polled_ = std::chrono::steady_clock::now();
    }

    Engine engine_;
    std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
    PyObject* progress_ = nullptr;  // borrowed from the call at work
    std::chrono::steady_clock::time_point polled_;
};

}  // namespace

NB_MODULE(_engine, m) {
    m.doc() = "Cycle-level timing engine of the accelerator.";
    nb::set_leak_warnings(false);  // torch's compile caches keep sessions alive until the process ends

    nb::class_<Completion> completion(m, "Completion",
                                      "A finished command; cycles count from the doorbell to an idle device.");
    completion
        .def(
            "__init__",
            [](Completion* self, const nb::kwargs& values) { new (self) Completion(make_completion(values)); },
            "The inverse of to_dict(); what is not given is 0.")
        .def("to_dict", &to_dict, "All fields by name, as JSON values.")
        .def("__eq__",
             [](const Completion& a, const nb::object& b) {
                 return nb::isinstance<Completion>(b) && to_dict(a).equal(to_dict(nb::cast<const Completion&>(b)));
             })
        .def("__getstate__", &to_dict)
        .def("__setstate__",
             [](Completion& self, const nb::dict& values) { new (&self) Completion(make_completion(values)); })
        .def_prop_ro("dataflow", [](const Completion& c) { return c.dataflow; })
        .def_prop_ro("stall", &stall);
#define ACALSIM_PROPERTY(name) completion.def_ro(#name, &Completion::name);
    ACALSIM_COMPLETION_NUMBERS(ACALSIM_PROPERTY)
#undef ACALSIM_PROPERTY

    nb::class_<ChannelStats>(m, "ChannelStats", "What one memory channel has moved since the canonical state.")
        .def_ro("bytes_read", &ChannelStats::bytes_read)
        .def_ro("bytes_written", &ChannelStats::bytes_written)
        .def_ro("bursts", &ChannelStats::bursts)
        .def_ro("row_hits", &ChannelStats::row_hits);

    m.attr("UNITS") = nb::cast(std::vector<std::string>(kUnitNames, kUnitNames + kUnits));

    nb::class_<PyEngine>(m, "Engine",
                         "Schedules commands; see device/timing.py for the configuration. One thread at a time may use "
                         "it: a call while another one is at work raises RuntimeError.")
        .def(
            "__init__", [](PyEngine* self, const nb::dict& config) { new (self) PyEngine(make_config(config)); },
            nb::arg("config"))
        .def(
            "submit",
            [](PyEngine& e, Cycle now, const nb::bytes& command) {
                e.use([&, data = command.data(), size = command.size()](Engine& engine) {
                    engine.submit(now, data, size);
                });
            },
            nb::arg("now"), nb::arg("command"), "Queue a command of the ABI; ValueError if it is malformed.")
        .def(
            "next_event",
            [](PyEngine& e) -> nb::object {
                const Cycle next = e.use([](Engine& engine) { return engine.next_event(); });
                return next == kNever ? nb::none() : nb::cast(next);
            },
            "Nothing becomes visible before this cycle; None when idle.")
        .def(
            "advance", [](PyEngine& e, Cycle now) { e.use([now](Engine& engine) { engine.advance(now); }); },
            nb::arg("now"), "Run everything up to and including this cycle.")
        .def(
            "run",
            [](PyEngine& e, const nb::object& progress) {
                return e.use([](Engine& engine) { return engine.run(); }, progress);
            },
            nb::arg("progress") = nb::none(),
            "Run until idle; the cycle of the last completion. progress(fraction of the work done, cycles simulated) "
            "is "
            "called some times a second. Ctrl-C and what progress raises leave the engine idle and drop what is in "
            "flight.")
        .def(
            "abandon", [](PyEngine& e) { e.use([](Engine& engine) { engine.abandon(); }); },
            "Drop what is in flight and what was completed but not collected.")
        .def(
            "estimate",
            [](PyEngine& e, const nb::bytes& command) {
                return e.use([data = command.data(), size = command.size()](Engine& engine) {
                    return engine.estimate(data, size);
                });
            },
            nb::arg("command"),
            "Cycles that a command takes about, alone on the machine: its first steps played through by the mapper, "
            "the "
            "rest extrapolated.")
        .def(
            "mapping",
            [](PyEngine& e, const nb::bytes& command) {
                return e.use([data = command.data(), size = command.size()](Engine& engine) {
                    return engine.mapping(data, size);
                });
            },
            nb::arg("command"), "The mapping that a command gets on the first core, as text.")
        .def(
            "pin_mapping",
            [](PyEngine& e, const nb::bytes& command, const std::string& mapping) {
                e.use([&, data = command.data(), size = command.size()](Engine& engine) {
                    engine.pin_mapping(data, size, mapping);
                });
            },
            nb::arg("command"), nb::arg("mapping"), "Use that mapping for this shape in place of the mapper's choice.")
        .def(
            "completions", [](PyEngine& e) { return e.use([](Engine& engine) { return engine.completions(); }); },
            "Commands completed since the last call, in order of completion.")
        .def(
            "channels", [](PyEngine& e) { return e.use([](Engine& engine) { return engine.channels(); }); },
            "One ChannelStats per memory channel, since the canonical state.")
        .def(
            "intervals",
            [](PyEngine& e) {
                const std::vector<Interval> uses = e.use([](Engine& engine) { return engine.intervals(); });
                return nb::bytes(reinterpret_cast<const char*>(uses.data()), uses.size() * sizeof(Interval));
            },
            "Uses of the units since the canonical state, packed: u32 unit (an index of UNITS), core, index, command; "
            "u64 "
            "begin, end, busy, bytes.")
        .def(
            "record_accesses",
            [](PyEngine& e, bool on) { e.use([on](Engine& engine) { engine.record_accesses(on); }); }, nb::arg("on"),
            "Whether memory accesses are recorded from the next canonical state on.")
        .def(
            "accesses",
            [](PyEngine& e) {
                const std::vector<Access> found = e.use([](Engine& engine) { return engine.accesses(); });
                return nb::bytes(reinterpret_cast<const char*>(found.data()), found.size() * sizeof(Access));
            },
            "Recorded accesses since the canonical state, packed: u64 begin, end, address, bytes; u32 command, write.")
        .def("stats", [](PyEngine& e) {
            const Stats s = e.use([](Engine& engine) { return engine.stats(); });
            nb::dict d;
            d["commands"] = s.commands;
            d["busy_cycles"] = s.busy_cycles;
            d["bytes_read"] = s.bytes_read;
            d["bytes_written"] = s.bytes_written;
            d["macs"] = s.macs;
            d["events"] = s.events;
            return d;
        });
}
