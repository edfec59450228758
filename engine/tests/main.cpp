// Runs every registered test, or those whose question contains the argument.
#include "check.h"

int main(int argc, char** argv) {
    int run = 0;
    for (const check::Test& test : check::tests()) {
        if (argc > 1 && test.question.find(argv[1]) == std::string::npos) continue;
        const int before = check::failures();
        test.run();
        ++run;
        std::printf("%s %s\n", check::failures() == before ? "ok  " : "FAIL", test.question.c_str());
    }
    std::printf("%d tests, %d failed checks\n", run, check::failures());
    return check::failures() == 0 && run > 0 ? 0 : 1;
}
