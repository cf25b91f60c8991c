#!/usr/bin/env python3
"""Writes demo.jsonl, the data set that `hansa demo` loads.

Deterministic and without dependencies: the same script writes the same bytes on
every machine. Run it without arguments to write the file, with --check to
compare the file with what would be written (exit 1 if they differ).

Everything is invented. People and towns are named after the words for "sample",
"example" and "fictitious" in their language, so that nobody mistakes them for
real ones.
"""

import json
import pathlib
import sys

OUTPUT = pathlib.Path(__file__).resolve().parent / "demo.jsonl"

# country -> (home region, given names, family names, towns, language)
COUNTRIES = {
    "US": ("us-east", ["Skip", "Penny", "Buddy"], ["Placeholder", "Samplewell", "Mockford"],
           ["Sampleville", "Fort Example"], "en"),
    "CA": ("us-east", ["Maple", "Zoé", "Rocky"], ["Échantillon", "Dummyson", "Testerly"],
           ["Mock Falls", "Sainte-Fiction"], "fr"),
    "MX": ("us-east", ["Niña", "Íñigo", "Lupita"], ["Ejemplo", "Muestra", "Ficticio"],
           ["Villa Ejemplo", "San Inventado"], "es"),
    "BR": ("us-east", ["João", "Conceição", "Tião"], ["Exemplo", "Amostra", "Fictício"],
           ["Amostrópolis", "São Exemplo"], "pt"),
    "DE": ("eu-central", ["Jörg", "Käthe", "Süsel"], ["Mustermännchen", "Beispielhöfer", "Prüfgroß"],
           ["Neu-Musterstädt", "Bad Beispiel"], "de"),
    "FR": ("eu-central", ["Zéphyrin", "Noëlle", "Gaël"], ["Exemplé", "Fictif", "Spécimen"],
           ["Exempleville", "Saint-Modèle"], "fr"),
    "IT": ("eu-central", ["Pippò", "Trudì", "Nicolò"], ["Esempio", "Campione", "Fittizio"],
           ["Esempiopoli", "Borgo Finto"], "it"),
    "PL": ("eu-central", ["Łucja", "Świętosław", "Żaneta"], ["Przykładowska", "Wzorcowy", "Próbka"],
           ["Przykładów", "Nowa Próba"], "pl"),
    "SE": ("eu-central", ["Åke", "Örjan", "Märta"], ["Exempelsson", "Påhittad", "Provström"],
           ["Exempelköping", "Påhittby"], "sv"),
    "NG": ("eu-central", ["Ṣadé", "Kẹ́hìndé", "Ọlá"], ["Àpẹẹrẹ", "Sampleola", "Misali"],
           ["Àpẹẹrẹ Town", "New Misali"], "yo"),
    "JP": ("ap-northeast", ["花子", "たろう", "サンプル"], ["見本", "例野", "架空川"],
           ["見本市", "カクウ町"], "ja"),
    "KR": ("ap-northeast", ["보기", "예시", "견본"], ["가상", "표본", "모의"],
           ["예시시", "가상읍"], "ko"),
    "TW": ("ap-northeast", ["小例", "阿範", "美樣"], ["範例", "樣本", "虛構"],
           ["範例市", "虛構鎮"], "zh"),
    "IN": ("ap-northeast", ["नमूना", "मिसाल", "आदर्श"], ["उदाहरणवाला", "काल्पनिक", "नमूनाकर"],
           ["उदाहरणपुर", "नमूनानगर"], "hi"),
    "AU": ("ap-northeast", ["Sunny", "Sheila", "Dusty"], ["Mockerby", "Testpeople", "Samplegum"],
           ["Wagga Sample", "Mock Creek"], "en"),
}

GOODS = ["AMBER", "CLOTH", "FISH", "FUR", "GRAIN", "HONEY", "IRON", "SALT", "TEA", "WAX"]
SKUS = [f"{goods}-{number:02}" for goods in GOODS for number in range(1, 5)]

CARTS_PER_COUNTRY = 27
PROFILES_PER_COUNTRY = 50
DAYS = [f"2026-{month:02}-{day:02}" for month in (3, 4) for day in range(1, 22)]


class Numbers:
    """SplitMix64: the same numbers in every version of Python."""

    def __init__(self, seed):
        self.state = seed

    def below(self, bound):
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        mixed = self.state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
        return (mixed ^ (mixed >> 31)) % bound

    def pick(self, choices):
        return choices[self.below(len(choices))]


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def carts(numbers):
    for country, (home, *_) in COUNTRIES.items():
        for number in range(1, CARTS_PER_COUNTRY + 1):
            chosen = {numbers.pick(SKUS): 1 + numbers.below(5) for _ in range(1 + numbers.below(4))}
            for sku, amount in sorted(chosen.items()):
                yield {"keyspace": "carts", "key": f"cart/{country}/{number:04}", "op": "add",
                       "element": f"{sku} x{amount}", "home": home}


def stock(numbers):
    for sku in SKUS:
        for country, (home, *_) in COUNTRIES.items():
            yield {"keyspace": "stock", "key": f"{sku}/{country}-1", "op": "incr",
                   "amount": 20 + numbers.below(480), "home": home}


def profiles(numbers):
    for country, (home, given, family, towns, language) in COUNTRIES.items():
        for number in range(1, PROFILES_PER_COUNTRY + 1):
            profile = {"name": f"{numbers.pick(given)} {numbers.pick(family)}",
                       "town": numbers.pick(towns), "country": country, "language": language,
                       "points": numbers.below(1000)}
            yield {"keyspace": "profiles", "key": f"profile/{country}/{number:04}", "op": "put",
                   "value": compact(profile), "home": home}


def counters(numbers):
    for country, (home, *_) in COUNTRIES.items():
        for day in DAYS:
            yield {"keyspace": "counters", "key": f"views/{country}", "sort": day, "op": "incr",
                   "amount": 100 + numbers.below(9900), "home": home}


def main():
    numbers = Numbers(1356)
    lines = [compact(record) + "\n"
             for records in (carts, stock, profiles, counters) for record in records(numbers)]
    data = "".join(lines).encode("utf-8")
    if sys.argv[1:] == ["--check"]:
        if not OUTPUT.is_file() or OUTPUT.read_bytes() != data:
            sys.exit(f"{OUTPUT.name} is not what generate.py writes: run generate.py")
    elif sys.argv[1:]:
        sys.exit("usage: generate.py [--check]")
    else:
        OUTPUT.write_bytes(data)
        print(f"{OUTPUT.name}: {len(lines)} records, {len(data)} bytes")


if __name__ == "__main__":
    main()
