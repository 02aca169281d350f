package main

// nodesCmd is about the nodes of a cluster.
type nodesCmd struct {
	Release releaseCmd `cmd:"" help:"Lift the fence of a node whose peers do not come back."`
}
