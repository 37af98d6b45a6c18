// Closes what a JavaScript object owns, once.
//
// Concurrency: methods run on the JavaScript thread. Closing runs on its own thread, because it waits for the driver.
// Closing never waits for JavaScript, so that the end of the environment can wait for closing.
#pragma once

#include <napi.h>

#include <functional>
#include <thread>
#include <vector>

#include "js_queue.h"

namespace netverdict
{

class JsCloser
{
  public:
    // `close` runs on any thread, then `closed` runs on the JavaScript thread. After that the queue takes no tasks.
    // Whatever they use must outlive the closer. Its destructor closes.
    JsCloser(Napi::Env env, JsQueue &queue, std::function<void()> close, std::function<void()> closed);
    ~JsCloser();

    JsCloser(const JsCloser &) = delete;
    JsCloser &operator=(const JsCloser &) = delete;

    // Starts to close. Keeps `self` alive until it is closed.
    void Start(const Napi::Object &self);

    // Starts to close. Returns a promise that resolves when it is closed.
    Napi::Value Close(const Napi::CallbackInfo &info);

    // Returns false if it was closed already.
    bool CloseAndWait();

    bool is_open() const { return !is_closing_; }

  private:
    void StartThread();
    void CloseIt();
    void Finish();
    void ReportClosed(Napi::Env env);
    static void OnEnvironmentEnd(void *self);

    const napi_env env_;
    JsQueue &queue_;
    const std::function<void()> close_;
    const std::function<void()> closed_;
    std::thread thread_;
    std::vector<Napi::Promise::Deferred> promises_;
    Napi::ObjectReference kept_;
    bool is_closing_ = false;
    bool is_closed_ = false;
};

} // namespace netverdict
