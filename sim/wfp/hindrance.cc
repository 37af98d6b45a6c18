#include "hindrance.h"

namespace sim::wfp
{

bool Hinder(Engine &engine, Hindrance hindrance, NTSTATUS status)
{
    switch (hindrance)
    {
    case Hindrance::kBeginForeignTransaction:
        engine.BeginForeignTransaction();
        return true;
    case Hindrance::kEndForeignTransaction:
        engine.EndForeignTransaction();
        return true;
    case Hindrance::kRefuse:
        engine.Refuse(status);
        return true;
    case Hindrance::kLoseSessions:
        engine.LoseSessions(status);
        return true;
    case Hindrance::kStopService:
        engine.SetServiceState(FWPM_SERVICE_STOP_PENDING);
        engine.SetServiceState(FWPM_SERVICE_STOPPED);
        return true;
    case Hindrance::kStartService:
        engine.SetServiceState(FWPM_SERVICE_START_PENDING);
        engine.SetServiceState(FWPM_SERVICE_RUNNING);
        return true;
    }
    return false;
}

} // namespace sim::wfp
