package token

import "slices"

// postItem puts ids around those of a text.
type postItem struct{ before, after []int32 }

func (p postItem) apply(ids []int32) []int32 { return slices.Concat(p.before, ids, p.after) }

// parsePostProcessor reads the "post_processor" field. Only what changes the
// ids of a single text matters here: templates, and the fixed ones of BERT and
// RoBERTa.
func parsePostProcessor(n node, size int) ([]postItem, error) {
	if n.null() {
		return nil, nil
	}
	fields, typ, err := n.kind()
	if err != nil {
		return nil, err
	}
	switch typ {
	case "Sequence":
		return sequence(n.field(fields, "processors"), func(item node) ([]postItem, error) { return parsePostProcessor(item, size) })
	case "ByteLevel":
		return nil, nil // trims offsets only
	case "TemplateProcessing":
		return parseTemplate(n, fields, size)
	case "BertProcessing", "RobertaProcessing":
		var p postItem
		for name, ids := range map[string]*[]int32{"cls": &p.before, "sep": &p.after} {
			f := n.field(fields, name)
			pair, err := f.array()
			if err != nil {
				return nil, err
			}
			if len(pair) != 2 {
				return nil, f.errf("want [token, id]")
			}
			id, err := pair[1].tokenID(size)
			if err != nil {
				return nil, err
			}
			*ids = []int32{id}
		}
		return []postItem{p}, nil
	}
	return nil, n.unsupported("type", typ)
}

// tokenID reads the id of a token of a vocabulary of that size.
func (n node) tokenID(size int) (int32, error) {
	var id int32
	if err := n.into(&id); err != nil {
		return 0, err
	}
	if id < 0 || int(id) >= size {
		return 0, n.errf("no token has id %d", id)
	}
	return id, nil
}

func parseTemplate(n node, fields map[string]node, size int) ([]postItem, error) {
	table, err := n.field(fields, "special_tokens").object()
	if err != nil {
		return nil, err
	}
	single, err := n.field(fields, "single").array()
	if err != nil {
		return nil, err
	}
	var p postItem
	to, seen := &p.before, false
	for _, item := range single {
		fields, err := item.object()
		if err != nil {
			return nil, err
		}
		if _, ok := fields["Sequence"]; ok {
			if seen {
				return nil, item.errf("unsupported: the text stands twice in the template")
			}
			to, seen = &p.after, true
			continue
		}
		tok, ok := fields["SpecialToken"]
		if !ok {
			return nil, item.errf("want a Sequence or a SpecialToken")
		}
		tf, err := tok.object()
		if err != nil {
			return nil, err
		}
		name, err := tok.field(tf, "id").str("")
		if err != nil {
			return nil, err
		}
		entry, ok := table[name]
		if !ok {
			return nil, tok.child("id", nil).errf("%q is not among special_tokens", name)
		}
		ef, err := entry.object()
		if err != nil {
			return nil, err
		}
		ids, err := entry.field(ef, "ids").array()
		if err != nil {
			return nil, err
		}
		for _, idn := range ids {
			id, err := idn.tokenID(size)
			if err != nil {
				return nil, err
			}
			*to = append(*to, id)
		}
	}
	if !seen {
		return nil, n.child("single", nil).errf("want a Sequence among the %d items", len(single))
	}
	return []postItem{p}, nil
}
