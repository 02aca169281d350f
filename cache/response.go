package cache

type response struct{}
