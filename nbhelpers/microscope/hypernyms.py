"""What several of ImageNet's classes are: bird, dog, vehicle, fruit.

A channel that answers to all dogs has no breed for a label: each breed's area under the curve suffers from the others.
So kinds of classes are tried as labels beside the classes (Bykov et al. 2023 take WordNet's). These are few, and known
by the classes' names: they serve any network and any photographs whose labels are called as ImageNet calls them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from nbhelpers import edge, models

RANGES = {
    "animal": "0..397",
    "fish": "0..6, 389..397",
    "bird": "7..24, 80..100, 127..146",
    "amphibian": "25..32",
    "reptile": "33..68",
    "turtle": "33..37",
    "lizard": "38..48",
    "snake": "52..68",
    "arachnid": "70..78",
    "invertebrate of the sea": "107..111, 115..126, 327..329",
    "crustacean": "118..126",
    "mammal": "101..106, 147..299, 330..388",
    "dog": "151..268",
    "wolf or fox": "269..275, 277..280",
    "cat": "281..285",
    "big cat": "286..293",
    "bear": "294..297",
    "insect": "300..326",
    "beetle": "300..307",
    "butterfly": "321..326",
    "rodent": "333..338",
    "hoofed animal": "339..355",
    "ape or monkey": "365..382",
    "elephant": "101, 385..386",
    "food": "924..957, 959..967, 969",
    "vegetable": "936..946",
    "fruit": "948..957",
    "landscape": "970, 972..980",
    "person": "981..983",
    "plant": "984..990",
    "fungus": "947, 991..997",
}
"""Kinds whose classes lie together: ImageNet's first 398 are animals by their kinship, its last food and plants."""

NAMES = {
    "vehicle": "ambulance, amphibian, beach wagon, bicycle-built-for-two, bullet train, cab, convertible, electric "
    "locomotive, fire engine, forklift, freight car, garbage truck, go-kart, golfcart, half track, harvester, horse "
    "cart, jeep, jinrikisha, limousine, minibus, minivan, Model T, moped, motor scooter, mountain bike, moving van, "
    "oxcart, passenger car, pickup, police van, racer, recreational vehicle, school bus, snowmobile, snowplow, "
    "sports car, steam locomotive, streetcar, tank, thresher, tow truck, tractor, trailer truck, tricycle, "
    "trolleybus, unicycle",
    "car": "ambulance, beach wagon, cab, convertible, jeep, limousine, minivan, Model T, pickup, police van, racer, "
    "sports car",
    "train or tram": "bullet train, electric locomotive, freight car, passenger car, steam locomotive, streetcar",
    "boat or ship": "aircraft carrier, canoe, catamaran, container ship, fireboat, gondola, lifeboat, liner, pirate, "
    "schooner, speedboat, submarine, trimaran, wreck, yawl",
    "aircraft": "airliner, airship, balloon, space shuttle, warplane",
    "building": "barn, bakery, barbershop, beacon, bell cote, boathouse, bookshop, butcher shop, castle, church, "
    "cinema, cliff dwelling, confectionery, dome, greenhouse, grocery store, library, lumbermill, mobile home, "
    "monastery, mosque, palace, planetarium, prison, restaurant, shoe shop, stupa, tobacco shop, toyshop, water "
    "tower, yurt",
    "bridge": "steel arch bridge, suspension bridge, viaduct",
    "monument": "megalith, obelisk, stupa, totem pole, triumphal arch",
    "fence": "chainlink fence, picket fence, stone wall, worm fence",
    "furniture": "barber chair, bassinet, bookcase, chest, chiffonier, china cabinet, cradle, crib, desk, dining "
    "table, entertainment center, file, folding chair, four-poster, medicine chest, park bench, pool table, rocking "
    "chair, studio couch, throne, toilet seat, wardrobe",
    "musical instrument": "accordion, acoustic guitar, banjo, bassoon, cello, chime, cornet, drum, electric guitar, "
    "flute, French horn, gong, grand piano, harmonica, harp, maraca, marimba, oboe, ocarina, organ, panpipe, sax, "
    "steel drum, trombone, upright, violin",
    "clothing": "abaya, academic gown, apron, bikini, bow tie, brassiere, cardigan, cloak, fur coat, gown, "
    "hoopskirt, jean, jersey, kimono, lab coat, maillot, maillot tank suit, military uniform, miniskirt, overskirt, "
    "pajama, poncho, sarong, stole, suit, sweatshirt, swimming trunks, trench coat, vestment, Windsor tie",
    "hat or helmet": "bathing cap, bearskin, bonnet, cowboy hat, crash helmet, football helmet, mortarboard, "
    "pickelhaube, shower cap, sombrero",
    "shoe": "clog, cowboy boot, Loafer, running shoe, sandal",
    "container": "ashcan, backpack, barrel, beaker, bucket, carton, crate, hamper, mailbag, milk can, packet, piggy "
    "bank, pill bottle, plastic bag, purse, rain barrel, safe, shopping basket, tub, vase, wallet",
    "bottle": "beer bottle, pop bottle, water bottle, whiskey jug, wine bottle",
    "kitchenware": "caldron, can opener, cleaver, cocktail shaker, coffee mug, coffeepot, corkscrew, cup, Dutch "
    "oven, frying pan, goblet, ladle, measuring cup, mixing bowl, pitcher, plate, saltshaker, soup bowl, spatula, "
    "strainer, teapot, tray, wok, wooden spoon",
    "household appliance": "Crock Pot, dishwasher, electric fan, espresso maker, iron, microwave, refrigerator, "
    "rotisserie, sewing machine, space heater, stove, toaster, vacuum, waffle iron, washer",
    "electronic device": "CD player, cassette player, cellular telephone, computer keyboard, desktop computer, dial "
    "telephone, hand-held computer, iPod, joystick, laptop, loudspeaker, modem, monitor, mouse, notebook, "
    "photocopier, printer, projector, radio, remote control, tape player, television, typewriter keyboard",
    "tool": "chain saw, broom, hammer, hatchet, paintbrush, pick, plow, plunger, power drill, screw, screwdriver, "
    "shovel",
    "weapon": "assault rifle, bow, cannon, guillotine, missile, projectile, revolver, rifle",
    "clock": "analog clock, digital clock, digital watch, hourglass, stopwatch, sundial, wall clock",
    "lamp": "candle, jack-o'-lantern, lampshade, spotlight, table lamp, torch, traffic light",
    "ball": "baseball, basketball, croquet ball, golf ball, ping-pong ball, rugby ball, soccer ball, tennis ball, "
    "volleyball",
}
"""Kinds of things, by the names that torchvision gives to ImageNet's classes."""


@cache
def imagenet() -> dict[str, frozenset[str]]:
    """Each kind's classes, by name in small letters."""
    classes = [name.lower() for name in models.imagenet_classes()]
    ranges = {
        kind: {classes[int(number)] for part in text.split(", ") for number in edge.in_range(part) or [part]}
        for kind, text in RANGES.items()
    }
    names = {kind: set(text.lower().split(", ")) for kind, text in NAMES.items()}
    return {kind: frozenset(some) for kind, some in (ranges | names).items()}


def groups(labels: Sequence[str]) -> dict[str, list[int]]:
    """The kinds that at least two of some labels are of, and not all: which labels, by number.

    Of kinds that are the same labels the narrower one is taken: of reptiles and snakes, if all reptiles are snakes.
    """
    plain = [label.split(",")[0].replace("_", " ").strip().lower() for label in labels]
    found: dict[tuple[int, ...], str] = {}
    for kind, some in sorted(imagenet().items(), key=lambda each: len(each[1])):
        members = tuple(number for number, label in enumerate(plain) if label in some)
        if 1 < len(members) < len(labels):
            found.setdefault(members, kind)
    return {kind: list(members) for members, kind in found.items()}
