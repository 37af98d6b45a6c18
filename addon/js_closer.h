// Closing what an object of JavaScript has, once.
//
// Concurrency: methods run on the JavaScript thread. Closing runs on a thread of its own, because it waits for the
// driver; nothing of it waits for JavaScript, so that the end of the environment can wait for it in turn.
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
    // `close` runs on any thread, then `closed` on the JavaScript thread, and the queue takes no more. What they use
    // must be there until the closer is destroyed, which closes.
    JsCloser(Napi::Env env, JsQueue &queue, std::function<void()> close, std::function<void()> closed);
    ~JsCloser();

    JsCloser(const JsCloser &) = delete;
    JsCloser &operator=(const JsCloser &) = delete;

    // Keeps `self` alive until it is closed.
    void Start(const Napi::Object &self);

    // The same, and a promise that is settled then.
    Napi::Value Close(const Napi::CallbackInfo &info);

    // False: it was closed already.
    bool CloseAndWait();

    bool is_open() const { return !is_closing_; }

  private:
    void StartThread();
    void CloseIt();
    void Finish();
    void Tell(Napi::Env env);
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
