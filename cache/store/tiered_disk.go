package store

import (
	"errors"
	"log/slog"
)

func openDisk(cfg []DiskConfig, log *slog.Logger) (diskTier, error) {
	return nil, errors.New("store: there is no disk tier yet: leave store.disk out")
}
