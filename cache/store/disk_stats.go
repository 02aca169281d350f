package store

import "sync/atomic"

// volumeStats counts what happened in one directory since the start.
type volumeStats struct {
	stored         atomic.Int64
	freshened      atomic.Int64
	bytesWritten   atomic.Int64
	bytesRead      atomic.Int64
	bytesSent      atomic.Int64
	backlogFull    atomic.Int64
	noRoom         atomic.Int64
	indexFull      atomic.Int64
	overRate       atomic.Int64
	firstTimers    atomic.Int64
	openErrors     atomic.Int64
	writeErrors    atomic.Int64
	syncErrors     atomic.Int64
	readErrors     atomic.Int64
	checksumErrors atomic.Int64
	collisions     atomic.Int64
	unprepared     atomic.Int64
	removalsLost   atomic.Int64
	segmentsLost   atomic.Int64
	reclaimed      atomic.Int64
	takenBack      atomic.Int64
	takenBackBytes atomic.Int64
	evicted        atomic.Int64
	torn           atomic.Int64
}

// DiskStats is what the disk tier holds and has done since it was opened.
type DiskStats struct {
	Directories   []DirectoryStats
	BufferedBytes int64 // held by Writers that are open
	BuffersFull   int64 // writes refused because Writers held too much
	FilterBytes   int64 // memory of the admission filters
}

// DirectoryStats is one directory of the disk tier. Counts are since the start.
type DirectoryStats struct {
	Path  string
	State string // serving, full (no space) or broken (failing)
	Error string // the last failed write or try to open it, while State is not serving

	Objects      int   // stored objects
	Slices       int   // slices of large objects
	Segments     int   // segment files
	BytesMax     int64 // the budget
	BytesUsed    int64 // of it, in segment files, with those that wait for readers
	BytesPinned  int64 // of it, in segments that are evicted and still being read
	IndexBytes   int64 // memory of the index
	BacklogBytes int64 // appended and not written yet
	OpenFiles    int64 // segment files open

	Stored         int64 // objects committed
	Freshened      int64 // headers replaced
	BytesWritten   int64 // to segment files
	BytesRead      int64 // of bodies, verified or sent
	BytesSent      int64 // of bodies, by sendfile
	BacklogFull    int64 // records dropped because the device was too slow
	NoRoom         int64 // records dropped because reclaim had not made room yet
	IndexFull      int64 // records dropped because the index was at its bound
	OverRate       int64 // objects kept out by the write budget
	FirstTimers    int64 // objects kept out until a second request
	OpenErrors     int64 // tries to open the directory that failed
	WriteErrors    int64 // failed writes and creations of segments
	SyncErrors     int64 // failed syncs
	ReadErrors     int64 // failed reads
	ChecksumErrors int64 // records that were not what was written; they are forgotten
	Collisions     int64 // lookups that found another key's record
	Unprepared     int64 // objects forgotten because their header could not be prepared
	RemovalsLost   int64 // removals not noted in the log, because it took none for long
	SegmentsLost   int64 // segments given up because they could not be written or read
	Reclaimed      int64 // segments reclaimed
	TakenBack      int64 // records that were hit twice and written again
	TakenBackBytes int64 // their bytes
	Evicted        int64 // records dropped by reclaim
	Torn           int64 // segments whose torn end was cut off at the start
}

// Stats returns a snapshot.
func (d *Disk) Stats() DiskStats {
	s := DiskStats{
		BufferedBytes: d.buffered.Load(),
		BuffersFull:   d.buffersFull.Load(),
		FilterBytes:   d.seen.Load().bytes(),
	}
	for _, v := range d.volumes {
		s.Directories = append(s.Directories, v.snapshot())
	}
	return s
}

func (v *volume) snapshot() DirectoryStats {
	condition, err := v.health.get()
	c := &v.stats
	s := DirectoryStats{
		Path: v.dir, State: condition.String(), BytesMax: v.bytes.Load(), OpenFiles: v.files.open.Load(),
		Stored: c.stored.Load(), Freshened: c.freshened.Load(),
		BytesWritten: c.bytesWritten.Load(), BytesRead: c.bytesRead.Load(), BytesSent: c.bytesSent.Load(),
		BacklogFull: c.backlogFull.Load(), NoRoom: c.noRoom.Load(), IndexFull: c.indexFull.Load(),
		OverRate: c.overRate.Load(), FirstTimers: c.firstTimers.Load(),
		OpenErrors: c.openErrors.Load(), WriteErrors: c.writeErrors.Load(), SyncErrors: c.syncErrors.Load(), ReadErrors: c.readErrors.Load(),
		ChecksumErrors: c.checksumErrors.Load(), Collisions: c.collisions.Load(), Unprepared: c.unprepared.Load(),
		RemovalsLost: c.removalsLost.Load(), SegmentsLost: c.segmentsLost.Load(), Reclaimed: c.reclaimed.Load(),
		TakenBack: c.takenBack.Load(), TakenBackBytes: c.takenBackBytes.Load(), Evicted: c.evicted.Load(),
		Torn: c.torn.Load(),
	}
	if condition != serving && err != nil {
		s.Error = err.Error()
	}
	s.Objects, s.Slices, s.IndexBytes = v.index.sizes()
	v.mu.Lock()
	s.BacklogBytes = v.backlog
	v.mu.Unlock()
	v.listMu.RLock()
	s.Segments, s.BytesUsed, s.BytesPinned = len(v.order), v.charged, v.doomed
	v.listMu.RUnlock()
	return s
}
