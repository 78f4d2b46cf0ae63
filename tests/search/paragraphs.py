"""A paragraph in each language that is told apart, written for the tests, so that no test depends on somebody else's text."""

PARAGRAPHS = {
    "en": "The boilers of the building were inspected in May by two engineers, who found them in good order. The tenants "
    "had complained about noises from the pipes, and it was decided that these will be replaced before the winter.",
    "da": "Husets kedler blev undersøgt i maj af to ingeniører, som fandt dem i god stand. Lejerne havde klaget over støj "
    "fra rørene, og det blev besluttet, at de skal udskiftes, før vinteren kommer.",
    "de": "Die Heizkessel des Gebäudes wurden im Mai von zwei Ingenieuren geprüft, die keine Schäden fanden. Die Mieter "
    "hatten sich über Geräusche in den Leitungen beschwert, und es wurde beschlossen, diese vor dem Winter zu erneuern. "
    "Größere Reparaturen der Häuser sind nach den Verträgen Sache des Eigentümers.",
    "es": "Las calderas del edificio fueron revisadas en mayo por dos ingenieros, que las encontraron en buen estado. Los "
    "inquilinos se habían quejado de los ruidos en las tuberías, y se decidió que serán sustituidas antes del invierno. "
    "Las reparaciones mayores son, según los contratos, obligación del propietario; la próxima inspección será en año y medio.",
    "fi": "Kaksi insinööriä tarkasti talon kattilat toukokuussa, ja ne olivat hyvässä kunnossa. Vuokralaiset olivat "
    "valittaneet, että putkista kuului ääniä, joten on päätetty, että ne vaihdetaan ennen kuin talvi tulee.",
    "fr": "Les chaudières de l'immeuble ont été vérifiées en mai par deux ingénieurs, qui les ont trouvées en bon état. Les "
    "locataires s'étaient plaints de bruits dans les conduites, et il a été décidé de les remplacer avant l'hiver. Les "
    "grosses réparations des bâtiments sont, d'après les contrats, à la charge du propriétaire.",
    "it": "Le caldaie dell'edificio sono state controllate a maggio da due ingegneri, che le hanno trovate in buono stato. "
    "Gli inquilini si erano lamentati dei rumori nelle tubature, e si è deciso che saranno sostituite prima dell'inverno.",
    "nl": "De ketels van het gebouw werden in mei door twee ingenieurs nagekeken, die ze in goede staat vonden. De huurders "
    "hadden geklaagd over geluiden in de leidingen, en er is besloten dat die voor de winter worden vervangen.",
    "no": "Kjelene i huset ble undersøkt i mai av to ingeniører, som fant dem i god stand. Leieboerne hadde klaget over støy "
    "fra rørene, og det ble besluttet at de skal skiftes ut før vinteren kommer.",
    "pl": "Kotły w budynku zostały w maju sprawdzone przez dwóch inżynierów, którzy nie znaleźli w nich żadnych usterek. "
    "Lokatorzy skarżyli się na hałas w rurach, a ponieważ nie dało się go usunąć, zostaną one wymienione przed zimą.",
    "pt": "As caldeiras do edifício foram verificadas em maio por dois engenheiros, que as encontraram em bom estado. Os "
    "inquilinos tinham se queixado dos ruídos nos canos, e foi decidido que estes serão trocados antes do inverno.",
    "ru": "Котлы в здании в мае проверили два инженера, и все они были в порядке. Жильцы жаловались на шум в трубах, поэтому "
    "было решено, что до зимы их заменят, а за это время все останутся при старых.",
    "sv": "Husets pannor undersöktes i maj av två ingenjörer, som fann att de var i gott skick. Hyresgästerna hade klagat på "
    "ljud från rören, och det har beslutats att de ska bytas ut innan vintern kommer.",
}
