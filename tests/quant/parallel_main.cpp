// Loops of a team and loops alone: every item once, and what threads wrote in one loop is there for all in the next.
// parallel THREADS; exits with 1 where an item is missing or done twice.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "quant/kernels/cpu/parallel/parallel.h"

namespace {

// Adds one to every count, each and what its neighbour had after the last loop, some slowly; whether all are as they
// must be.
bool loops(int threads) {
    bool is_right = true;
    for (int64_t items = 0; items < 200; items += 1 + items / 7) {
        std::vector<int64_t> before(static_cast<size_t>(items), 0), after(before);
        for (int64_t round = 1; round <= 5; ++round) {
            zaya::parallel_for(threads, items, [&](int64_t item) {
                const auto i = static_cast<size_t>(item);
                if ((item + round) % 29 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
                after[i] += 1 + before[(i + 1) % before.size()];
            });
            for (size_t i = 0; i < before.size(); ++i) is_right &= after[i] == (int64_t{1} << round) - 1;
            before = after;
        }
    }
    return is_right;
}

}  // namespace

int main(int, char** arguments) {
    const int threads = std::atoi(arguments[1]);
    bool is_right = loops(threads), is_right_in_team = false, is_right_in_second = false;
    zaya::with_team(threads, [&] { is_right_in_team = loops(threads); });
    zaya::with_team(threads, [&] { zaya::with_team(threads, [&] { is_right_in_second = loops(threads); }); });
    std::printf("%d %d %d\n", is_right, is_right_in_team, is_right_in_second);
    return is_right && is_right_in_team && is_right_in_second ? 0 : 1;
}
