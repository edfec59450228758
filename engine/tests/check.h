// A test is a function that registers itself; CHECK says file, line and both values.
#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

namespace check {

struct Test {
    std::string question;
    std::function<void()> run;
};

inline std::vector<Test>& tests() {
    static std::vector<Test> all;
    return all;
}

inline int& failures() {
    static int count = 0;
    return count;
}

struct Register {
    Register(const char* question, std::function<void()> run) { tests().push_back({question, std::move(run)}); }
};

template <typename A, typename B>
void equal(const A& got, const B& expected, const char* text, const char* file, int line) {
    if (got == static_cast<A>(expected)) return;
    ++failures();
    std::printf("%s:%d: %s is %lld, expected %lld\n", file, line, text, static_cast<long long>(got),
                static_cast<long long>(expected));
}

inline void holds(bool value, const char* text, const char* file, int line) {
    if (value) return;
    ++failures();
    std::printf("%s:%d: %s does not hold\n", file, line, text);
}

}  // namespace check

#define TEST(name, question)                                      \
    static void name();                                           \
    static const check::Register register_##name(question, name); \
    static void name()
#define CHECK_EQUAL(got, expected) check::equal((got), (expected), #got, __FILE__, __LINE__)
#define CHECK(condition) check::holds((condition), #condition, __FILE__, __LINE__)
