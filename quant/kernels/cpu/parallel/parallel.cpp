#include "quant/kernels/cpu/parallel/parallel.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "quant/kernels/abi.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace zaya {
namespace {

std::atomic<ParallelRegion> parallel_region{nullptr};

void run_on_new_threads(void (*work)(void*), void* data, unsigned threads) {
    std::vector<std::thread> others;
    for (unsigned i = 1; i < threads; ++i) others.emplace_back(work, data);
    work(data);
    for (std::thread& other : others) other.join();
}

void run_on_threads(void (*work)(void*), void* data, int threads) {
    const auto count = static_cast<unsigned>(threads);
    if (ParallelRegion region = parallel_region.load())
        region(work, data, count, 0);
    else
        run_on_new_threads(work, data, count);
}

// Each thread works through its own range of the items, so that memory is read in order, and then steals from the ends
// of the others' ranges.
class Loop {
public:
    Loop(int threads, int64_t items, const std::function<void(int64_t)>& body)
        : count_(std::min(threads, kMostQueues)), body_(body) {
        for (int i = 0; i < count_; ++i)
            queues_[i].left = {static_cast<int32_t>(items * i / count_),
                               static_cast<int32_t>(items * (i + 1) / count_)};
    }

    void work(int thread) {
        for (int i = 0; i < count_; ++i)
            for (int64_t item; (item = queues_[(thread + i) % count_].take(i == 0)) >= 0;) body_(item);
    }

    static void join(void* data) {
        Loop& loop = *static_cast<Loop*>(data);
        loop.work(loop.arrived_.fetch_add(1, std::memory_order_relaxed));
    }

private:
    struct alignas(8) Range {  // else clang calls a library for it
        int32_t next, end;
    };
    struct alignas(64) Queue {
        std::atomic<Range> left;

        // The first item or the last, or -1.
        int64_t take(bool is_first) {
            Range range = left.load(std::memory_order_relaxed), rest;
            do {
                if (range.next >= range.end) return -1;
                rest = is_first ? Range{range.next + 1, range.end} : Range{range.next, range.end - 1};
            } while (!left.compare_exchange_weak(range, rest, std::memory_order_relaxed));
            return is_first ? range.next : rest.end;
        }
    };
    static constexpr int kMostQueues = 16;
    Queue queues_[kMostQueues];
    std::atomic<int> arrived_{0};
    const int count_;
    const std::function<void(int64_t)>& body_;
};

// Waiting for another thread that will be done in microseconds, most often.
class Spin {
public:
    void once() {
        if (++count_ > kSpins) return std::this_thread::yield();
#if defined(__x86_64__) || defined(_M_X64)
        _mm_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
        asm volatile("isb");
#endif
    }

private:
    static constexpr int kSpins = 4000;
    int count_ = 0;
};

// A loop lives in its caller's stack. `inside_` counts who may read it: a thread adds itself before it looks for a
// loop, and the leader takes the loop away before it waits for the count to be zero.
class Team {
public:
    explicit Team(const std::function<void()>& body) : body_(&body), leader_(std::this_thread::get_id()) {}

    static void join(void* data) {
        Team& team = *static_cast<Team*>(data);
        std::this_thread::get_id() == team.leader_ ? team.lead() : team.help(1 + team.helpers_.fetch_add(1));
    }

    void run(Loop& loop) {
        loop_.store(&loop);
        number_.fetch_add(1);
        loop.work(0);
        loop_.store(nullptr);
        for (Spin spin; inside_.load() != 0;) spin.once();
    }

    static thread_local Team* led;  // by this thread

private:
    void lead() {
        led = this;
        (*body_)();
        led = nullptr;
        is_over_.store(true);
    }

    void help(int thread) {
        int64_t seen = 0;
        for (Spin spin; !is_over_.load();) {
            const int64_t number = number_.load();
            if (number == seen) {
                spin.once();
                continue;
            }
            inside_.fetch_add(1);
            if (Loop* loop = loop_.load()) loop->work(thread);
            inside_.fetch_sub(1);
            seen = number;
            spin = Spin();
        }
    }

    const std::function<void()>* body_;
    const std::thread::id leader_;
    std::atomic<int> helpers_{0};
    alignas(64) std::atomic<Loop*> loop_{nullptr};
    std::atomic<int64_t> number_{0};  // of loops so far
    std::atomic<bool> is_over_{false};
    alignas(64) std::atomic<int> inside_{0};
};

thread_local Team* Team::led = nullptr;

}  // namespace

void use_parallel_region(ParallelRegion region) { parallel_region.store(region); }

void parallel_for(int threads, int64_t items, const std::function<void(int64_t)>& body) {
    threads = static_cast<int>(std::min<int64_t>(threads, items));
    if (threads <= 1) {
        for (int64_t item = 0; item < items; ++item) body(item);
        return;
    }
    Loop loop(threads, items, body);
    if (Team::led)
        Team::led->run(loop);
    else
        run_on_threads(Loop::join, &loop, threads);
}

void with_team(int threads, const std::function<void()>& body) {
    if (threads <= 1 || Team::led) return body();
    Team team(body);
    run_on_threads(Team::join, &team, threads);
}

}  // namespace zaya

void quant_use_parallel_region(void* region) {
    zaya::use_parallel_region(reinterpret_cast<zaya::ParallelRegion>(region));
}
