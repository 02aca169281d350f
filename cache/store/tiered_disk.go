package store

import "log/slog"

// openDisk opens the disk tier for Tiered, which prepares what comes from it.
func openDisk(cfg []DiskConfig, log *slog.Logger) (diskTier, error) {
	d, err := OpenDisk(cfg, nil, log)
	if err != nil {
		return nil, err
	}
	return d, nil
}
