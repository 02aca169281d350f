package main

import (
	"edgecdn/admin"
	"edgecdn/dnsgeo"
)

// dnsTexts has the responder keep the TXT records that come in over the API.
type dnsTexts struct{ dns *dnsgeo.Responder }

// texts is admin.Sources.Texts.
func (n *node) texts() admin.Texts {
	if n.state.now() == starting || n.dns == nil {
		return nil
	}
	return dnsTexts{n.dns}
}

func (t dnsTexts) Put(r admin.TextRecord) error { return t.dns.PutText(dnsgeo.Text(r)) }

func (t dnsTexts) Delete(name string) (bool, error) { return t.dns.DeleteText(name), nil }

func (t dnsTexts) All() []admin.TextRecord {
	var all []admin.TextRecord
	for _, one := range t.dns.Texts() {
		all = append(all, admin.TextRecord(one))
	}
	return all
}
