/** The state of the driver's service. */

/** The state of a service; `'not-installed'` if no service has the name. */
export type ServiceState =
  | 'not-installed'
  | 'stopped'
  | 'start-pending'
  | 'stop-pending'
  | 'running'
  | 'continue-pending'
  | 'pause-pending'
  | 'paused';

/**
 * When Windows starts the driver.
 *
 * - `'demand'`: only on request.
 * - `'auto'`: at each start of Windows, after the filter engine.
 * - `'system'`: at each start of Windows, before any service.
 *
 * The filter engine is itself a service, so even with `'system'` nothing is filtered before it runs.
 */
export type ServiceStartType = 'demand' | 'system' | 'auto';

/**
 * What an update has done.
 *
 * - `'updated'`: the new driver is the service's driver.
 * - `'unchanged'`: the service has a driver of the same version.
 * - `'newer-kept'`: the service has a newer driver, and keeps it.
 */
export type UpdateResult = 'updated' | 'unchanged' | 'newer-kept';

/** The status of the service, from the service control manager. */
export interface ServiceStatus {
  /** The service's name. */
  readonly name: string;
  /** The service's current state. */
  readonly state: ServiceState;
  /** The path of the driver's file; absent if not installed. */
  readonly path?: string;
  /** When Windows starts the service; absent if not installed. */
  readonly startType?: ServiceStartType | 'boot' | 'disabled';
  /** The Win32 error with which the driver stopped, 0 for none; absent if not installed. */
  readonly exitCode?: number;
}
