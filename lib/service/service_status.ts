/** What the service control manager reports of the driver's service. */

/** What a service does; `'not-installed'` where there is none of the name. */
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
 * When Windows starts the driver: `'demand'`, when it is asked to; `'auto'`, at each start of Windows, with the services
 * and after the filter engine; `'system'`, at each start of Windows before any service runs. The filter engine is one:
 * with `'system'` too nothing is filtered before it runs.
 */
export type ServiceStartType = 'demand' | 'system' | 'auto';

/** What the service control manager says of the service. */
export interface ServiceStatus {
  /** The service's name. */
  readonly name: string;
  /** What it does now. */
  readonly state: ServiceState;
  /** The driver's file; absent when not installed. */
  readonly path?: string;
  /** When Windows starts it; absent when not installed. */
  readonly startType?: ServiceStartType | 'boot' | 'disabled';
  /** The Win32 error that the driver stopped with, 0 for none; absent when not installed. */
  readonly exitCode?: number;
}
